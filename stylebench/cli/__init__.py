"""The command line: what a person types and sees."""

from stylebench.cli.app import main

__all__ = ["main"]
