"""Gains for the frequencies and colors of an image."""
