"""Gram matrix, style loss, and the gradient of a layer's losses behind its ReLU."""
