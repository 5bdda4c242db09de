"""A cost model of one iteration on a GPU that is not there: ``python -m stylebench.bench.model``."""
