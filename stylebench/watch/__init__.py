"""A run as it goes: on a bar, in a notebook, on a page, in a film."""
