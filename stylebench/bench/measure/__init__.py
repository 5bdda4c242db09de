"""How times and memory are taken."""
