"""``python -m stylebench``."""

from stylebench.cli.app import main

main()
