"""``python -m stylebench.bench.gpu``."""

import sys

from stylebench.bench.gpu.needs import missing

if absent := missing():
    names = " ".join(absent)
    sys.stderr.write(
        f"stylebench.bench.gpu: error: not installed here: {names}; on a machine without a network,"
        f" bring them: `pip install --target FOLDER {names}` elsewhere, and FOLDER in PYTHONPATH\n"
    )
    sys.exit(2)

from stylebench.bench.gpu.loan import main

sys.exit(main())
