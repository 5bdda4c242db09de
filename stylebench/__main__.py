"""``python -m stylebench``."""

from stylebench.cli import main

main()
