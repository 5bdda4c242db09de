"""Triton kernels for neural style transfer, behind torch operators."""
