"""3 x 3 convolution with frozen weights: Winograd's way, native on CPUs."""
