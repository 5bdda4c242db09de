"""Engines held against the fp64 reference."""
