"""Gradient of a 3 x 3 convolution's input, where that has an image's few channels."""
