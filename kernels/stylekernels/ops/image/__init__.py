"""The image on its way into a network, and the gradient on its way back."""
