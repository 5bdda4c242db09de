"""Sizes that the kernels run at in style transfer."""

VGG = ((64, 1), (128, 2), (256, 4), (512, 8), (512, 16))
"""Channels of relu1_1 .. relu5_1, and the image's side over the layer's."""

HISTORIES = (20, 100)
"""Pairs that L-BFGS keeps: the usual number, and one of the largest."""
