"""`python -m stylekernels.aot`: see `stylekernels.tuning.aot`."""

import sys

from stylekernels.tuning.aot import main

if __name__ == "__main__":
    sys.exit(main())
