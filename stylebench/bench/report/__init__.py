"""Records made visible: one self-contained page, and the README's table of results."""
