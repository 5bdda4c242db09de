"""Operators on one element at a time: content loss, bias with ReLU, the mask of a ReLU."""
