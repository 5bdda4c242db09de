"""Total variation of an image."""
