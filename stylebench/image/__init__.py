"""Pixels in and out: loading, saving, synthetic pictures and metrics."""
