"""Optimizers: what moves the image."""
