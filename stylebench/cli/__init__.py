"""The command line: what a person types and sees."""

from __future__ import annotations

import sys

from stylebench.cli import signals, streams

__all__ = ["main"]


def main() -> None:
    """Run the command line as a process of its own: its signals, its streams, its exit code."""
    signals.install()
    streams.install()
    with signals.importing():
        from stylebench.cli.app import main as run
    try:
        run()
    except KeyboardInterrupt:  # one more, while the line about the first is printed
        sys.exit(signals.exit_code())
    finally:
        signals.release()
