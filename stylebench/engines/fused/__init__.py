"""The fused engine: VGG's forward and backward pass written out, without autograd."""
