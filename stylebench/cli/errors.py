"""Errors as a person sees them: one line on stderr, and an exit code.

2: an error; 3: the loss hardly fell; 4: a file could not be written where it was asked for,
and a line says where it is; 128 and a signal's number: interrupted.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

import typer

from stylebench import signals
from stylebench.cli.parsing import with_options
from stylebench.console import printable
from stylebench.model.out_of_memory import out_of_memory

ERROR, STUCK, ELSEWHERE = 2, 3, 4

#: The environment of a process that torchrun has started.
LAUNCHED = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")

# Inductor's words on a CPU, and Triton's on a GPU, whose types are theirs and change.
_NO_COMPILER = ("No working C++ compiler", "Failed to find C compiler")


def leave(error: BaseException, code: int | None = None) -> NoReturn:
    """Say what ``error`` is, and exit.

    Args:
        error: whose traceback is shown if it is a fault of ours.
        code: the exit code; None: the error's own.
    """
    if isinstance(error, KeyboardInterrupt | typer.Abort):
        sys.exit(code or signals.exit_code())
    message = explain(error)
    if message is None:
        raise error
    tell(f"error: {with_options(message)}")
    sys.exit(code or ERROR)


@contextmanager
def told_once() -> Iterator[None]:
    """Let errors of what was typed, the same in all processes of torchrun, be those of the first.

    The others end without a word.
    """
    try:
        yield
    except Exception:
        if is_first() or any(name not in os.environ for name in LAUNCHED):
            raise
        sys.exit(ERROR)


def is_first() -> bool:
    """Whether this process writes and reports, by what torchrun has set."""
    return os.environ.get("RANK", "0") == "0"


def tell(line: str) -> None:
    """Print one line on stderr."""
    typer.echo(f"stylebench: {printable(' '.join(line.split()))}", err=True)


def explain(error: BaseException) -> str | None:
    """The line for an error that a person can mend; None for a fault of ours."""
    if hasattr(error, "format_message"):  # typer's usage errors; older versions have click's
        return _usage(error)
    if isinstance(error, ValueError | ArithmeticError):
        return str(error)
    if out_of_memory(error):
        if plan := getattr(error, "__notes__", None):  # what the run needs, and what would fit
            return f"out of memory: {plan[-1]}"
        reason = str(error).strip().splitlines()
        return f"out of memory; lower --size or --history ({reason[0] if reason else 'no more'})"
    if isinstance(error, OSError):
        return str(error)
    if isinstance(error, ImportError) and not (error.name or "").startswith("style"):
        return f"a library cannot be loaded ({error}); is it whole, and is there memory enough?"
    if any(text in str(error) for text in _NO_COMPILER):
        reason = str(error).splitlines()
        return f"no compiler to compile with; install g++, or take --engine fused ({reason[0]})"
    return None


def _usage(error: Any) -> str:
    """A usage error; of a number: the option, the value, and what is expected."""
    names, cause = "/".join(getattr(getattr(error, "param", None), "opts", ())), error.__cause__
    if not names or not hasattr(cause, "errors"):
        return str(error.format_message())
    fault = cause.errors()[0]
    expected = fault["msg"].removeprefix("Input should be ").split(",")[0]
    return f"{names} is {fault['input']!r}: expected {expected}"
