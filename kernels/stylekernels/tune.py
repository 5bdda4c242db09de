"""`python -m stylekernels.tune`: see `stylekernels.tuning.tune`."""

import sys

from stylekernels.tuning.tune import main

if __name__ == "__main__":
    sys.exit(main())
