"""Dispatch, operator registration, memory layouts, kernel launches and their configurations."""
