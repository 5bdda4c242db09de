"""``stylebench bench SUITE`` and ``stylebench bench compare A B``."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from stylebench.bench.suites import SUITES
from stylebench.cli.errors import tell
from stylebench.cli.options import Command
from stylebench.cli.parsing import naming_options

_OF_SETTINGS = ("weights", "device", "size")  # options that are settings of a run


class _Group(TyperGroup):
    """Answers an unknown name with the names there are, and no name with the help."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        return super().parse_args(ctx, args or ["--help"])

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        command = super().get_command(ctx, cmd_name)
        if command is None:
            names = ", ".join(self.list_commands(ctx))
            raise ValueError(f"unknown suite {cmd_name!r}: expected one of {names}")
        return command


app = typer.Typer(
    cls=_Group,
    help="Measure this machine: suites, their records, and records compared.",
)

Quick = Annotated[bool, typer.Option("--quick", help="Small sizes and loose intervals.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print the record and nothing else.")]
Filter = Annotated[
    str | None, typer.Option("--filter", help="Cases with this in their name, or a glob.")
]
Device = Annotated[
    str | None, typer.Option(help="cpu, cuda, cuda:1 or mps.", show_default="the best there is")
]
Size = Annotated[int | None, typer.Option("--size", "-s", help="Longest side, px.")]
Content = Annotated[Path | None, typer.Option(help="An image file.", show_default="an example")]
Style = Annotated[Path | None, typer.Option(help="An image file.", show_default="an example")]
Weights = Annotated[str, typer.Option(help="As for stylize.")]
Seconds = Annotated[
    float | None, typer.Option(help="Start no case after so long; the record is incomplete then.")
]
First = Annotated[
    int | None, typer.Option(help="Run so many of the suite's jobs, the headline's first.")
]
Output = Annotated[
    Path | None,
    typer.Option("--output", "-o", help="Folder of results: OUTPUT/MACHINE/DATE-SUITE.json."),
]
Resume = Annotated[
    Path | None, typer.Option(help="Go on with this incomplete record.", show_default=False)
]


def _command(name: str) -> Callable[..., None]:
    def command(
        quick: Quick = False,
        json: AsJson = False,
        output: Output = None,
        pattern: Filter = None,
        device: Device = None,
        size: Size = None,
        content: Content = None,
        style: Style = None,
        weights: Weights = "original",
        seconds: Seconds = None,
        first: First = None,
        resume: Resume = None,
    ) -> None:
        from stylebench.bench.suites.base import Options
        from stylebench.bench.suites.console import run_suite_in_console

        options = Options(
            quick=quick, device=device, size=size, content=content, style=style, weights=weights,
            pattern=pattern, seconds=seconds, first=first, command=_typed(),
        )  # fmt: skip
        with naming_options(_OF_SETTINGS):
            code = run_suite_in_console(name, options, output, json, resume)
        raise typer.Exit(code)

    command.__doc__ = SUITES[name]
    return command


for _name in SUITES:
    app.command(_name, cls=Command)(_command(_name))


@app.command(cls=Command)
def compare(
    before: Annotated[
        Path | None, typer.Argument(help="A record, or a folder of them.", show_default=False)
    ] = None,
    after: Annotated[
        Path | None, typer.Argument(help="Likewise; what is judged.", show_default=False)
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON, not a table.")] = False,
    fail_slower: Annotated[
        str | None, typer.Option(help="Exit code 1 where a case is slower by more, as 5%, or lost.")
    ] = None,
    base: Annotated[
        str | None, typer.Option(help="A git revision to measure against the working tree.")
    ] = None,
    suite: Annotated[str, typer.Option(help="With --base: what to measure.")] = "iteration",
    rounds: Annotated[
        int, typer.Option(help="With --base: runs of each, in turn.", min=1, max=1000)
    ] = 2,
    quick: Quick = False,
    pattern: Filter = None,
    device: Device = None,
    size: Size = None,
    weights: Weights = "original",
) -> None:
    """Tell by case whether AFTER is FASTER, SLOWER, the SAME, or UNCLEAR against BEFORE."""
    from stylebench.bench.compare.differences import percentage, print_comparison
    from stylebench.bench.compare.worktree import measured_against
    from stylebench.bench.suites.base import Options

    limit = None if fail_slower is None else percentage(fail_slower)
    if base is not None and before is not None:
        raise ValueError(
            f"--base {base} measures both sides itself: leave out {before} and what follows, "
            "or --base"
        )
    options = Options(quick=quick, device=device, size=size, weights=weights, pattern=pattern)

    if base is not None:
        records, faults = measured_against(base, suite, options, rounds), list[str]()
    else:
        (old, lost), (new, more) = _loaded(before), _loaded(after)
        records, faults = (old, new), [*lost, *more]
    raise typer.Exit(0 if print_comparison(*records, limit, json, faults) else 1)


def _loaded(path: Path | None) -> tuple[list[Any], list[str]]:
    """The records below ``path``, and a line for each file that was left out."""
    from stylebench.bench.records.store import load_records

    if path is None:
        raise ValueError("expected two records or folders, or --base REVISION")
    stored, faults = load_records(path)
    if not stored:
        more = f" and {len(faults) - 1} more" if faults[1:] else ""
        raise ValueError(f"{path}: holds no record" + (f" ({faults[0]}{more})" if faults else ""))
    for fault in faults:
        tell(f"left out: {fault}")
    return [one.record for one in stored], faults


def _typed() -> str:
    """The command line that ran this, to be pasted, without the folder of the program."""
    program = Path(sys.argv[0]).name
    return shlex.join(["stylebench" if program == "__main__.py" else program, *sys.argv[1:]])
