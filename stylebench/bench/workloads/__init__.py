"""The computations that benchmarks time, each with its parity gate."""
