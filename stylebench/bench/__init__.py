"""Benchmarks: what a machine can do, what the engines make of it, and records of both."""
