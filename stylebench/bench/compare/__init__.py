"""Two benchmark runs compared."""
