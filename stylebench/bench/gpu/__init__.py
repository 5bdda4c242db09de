"""Everything that a short loan of a GPU should do: ``python -m stylebench.bench.gpu``."""
