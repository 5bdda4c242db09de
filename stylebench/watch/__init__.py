"""What shows a run while it goes: a bar, a notebook, a page, a film."""
