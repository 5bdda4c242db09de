"""One iteration's cost on a GPU that need not be there: ``python -m stylebench.bench.model``."""
