"""Timing, memory, and the statistics of both."""
