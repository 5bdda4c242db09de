"""One style transfer, from settings to result."""
