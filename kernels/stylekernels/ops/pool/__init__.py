"""ReLU and 2 x 2 pooling in one step."""
