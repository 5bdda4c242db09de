"""``python -m stylebench.bench.model``."""

import sys

from stylebench.bench.model.command import main

sys.exit(main())
