"""The command line: what a person types and sees."""

from __future__ import annotations

import os
import sys

from stylebench import signals

__all__ = ["interrupted", "main"]

_WITH_ITERATIONS = ("stylize", "demo")


def interrupted() -> str:
    """The line of a command that a signal ended before there was anything to keep."""
    iterates = sys.argv[1:2] and sys.argv[1] in _WITH_ITERATIONS
    return "interrupted before the first iteration" if iterates else "interrupted"


def main() -> None:
    """Run the command line as a process of its own: its signals, its streams, its exit code."""
    signals.install(interrupted())  # first: what is imported before it is time to die silently in
    _check_folder()
    from stylebench.cli import streams

    streams.install()
    sys.unraisablehook = _unraisable
    from stylebench.cli.app import main as run

    try:
        run()
    except KeyboardInterrupt:  # one more, while the line about the first is printed
        sys.exit(signals.exit_code())
    finally:
        signals.release()


def _check_folder() -> None:
    """End a process whose current folder was removed, before a library's import dies of it."""
    try:
        os.getcwd()  # noqa: PTH109  # pathlib is one import more
    except OSError as error:
        line = f"stylebench: error: the current folder is gone ({error.strerror}); enter another\n"
        os.write(2, line.encode())
        sys.exit(2)


def _unraisable(fault: sys.UnraisableHookArgs) -> None:
    """As Python's own, but for signals: one that came in a destructor ends the run a step later."""
    if not isinstance(fault.exc_value, signals.Stop):
        sys.__unraisablehook__(fault)
