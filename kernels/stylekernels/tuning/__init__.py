"""Compiling kernels ahead of time, and measuring their launch configurations."""
