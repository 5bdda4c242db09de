"""The fused engine: forward and backward written out, without autograd."""
