"""``python -m stylebench.bench.gpu``."""

import sys

from stylebench.bench.gpu.loan import main

sys.exit(main())
