"""One iteration of the fused engine on a GPU that need not be there: a cost model.

    python -m stylebench.bench.model --gpu h100 --size 512
    python -m stylebench.bench.model --gpu a100 --size 1024 --precision tf32 --json model.json
    python -m stylebench.bench.model --gpu h200 --measured 2027-01-01-iteration.json

The kernels are those that the real engine, optimizer and log launch, counted on tensors without
numbers. Their bytes, each operand once, and operations are set against the GPU's data sheet.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from stylebench.bench.model import measured
from stylebench.bench.model.costs import Modelled, modelled
from stylebench.bench.model.table import lines
from stylebench.bench.records.record import Value
from stylebench.bench.records.store import read_record
from stylebench.engines import ENGINES
from stylebench.files.paths import FileError
from stylebench.files.writing import atomic_path
from stylebench.transfer.device import choose_history
from stylebench.transfer.settings import Settings
from stylekernels.model.gpus import DATA_SHEETS
from stylekernels.runtime.dispatch import has_triton

_PRECISIONS = tuple(name for name in ENGINES["fused"].precisions if name != "fp64")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return the exit code, 2 with one line on stderr after an error."""
    options = _parser().parse_args(arguments)
    try:
        text = _run(options)
    except (ValueError, OSError, FileError) as error:
        sys.stderr.write(f"stylebench.bench.model: error: {' '.join(str(error).split())}\n")
        return 2
    sys.stdout.write("\n".join(text) + "\n")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m stylebench.bench.model", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--gpu", choices=DATA_SHEETS, default="h100", help="whose data sheet")
    parser.add_argument("--size", type=int, default=512, help="of the image, pixels square")
    parser.add_argument("--precision", choices=_PRECISIONS, default="fp16")
    parser.add_argument("--optimizer", choices=("lbfgs", "adam"), default="lbfgs")
    parser.add_argument("--history", type=int, help="pairs of L-BFGS, all of them there")
    parser.add_argument("--json", type=Path, help="also write the table and every kernel here")
    parser.add_argument("--measured", type=Path, help="a record to lay beside: iteration, kernels")
    return parser


def _run(options: argparse.Namespace) -> list[str]:
    if not has_triton():
        raise ValueError("Triton is not installed, which plans the launches: install it on Linux")
    from stylebench.bench.model.iteration import trace_iteration  # imports Triton

    settings = _settings(options)
    sheet, size = DATA_SHEETS[options.gpu], options.size
    record = read_record(options.measured) if options.measured else None
    iteration = modelled(trace_iteration(sheet, (size, size), settings), sheet)
    wanted: dict[str, Value] = {
        "precision": options.precision, "width": size, "height": size,
        "optimizer": options.optimizer, "history": choose_history(settings, size**2),
    }  # fmt: skip
    title = _title(wanted)
    text = list(lines(iteration, title, sheet))
    if record:
        layers = settings.resolved_preset().style_layers
        found = measured.measured_of(record, options.gpu, wanted, layers)
        text += measured.lines(iteration, found)
    if options.json:
        _write(options.json, title, iteration)
    return text


def _settings(options: argparse.Namespace) -> Settings:
    return Settings(
        engine="fused",
        size=options.size,
        scales=None,
        precision=options.precision,
        optimizer=options.optimizer,
        history=options.history if options.optimizer == "lbfgs" else None,
    )


def _title(parameters: Mapping[str, Value]) -> str:
    with_pairs = parameters["optimizer"] == "lbfgs"
    history = f", history {parameters['history']}" if with_pairs else ""
    size = f"{parameters['width']} x {parameters['height']} px"
    choices = f"fused {parameters['precision']}, {parameters['optimizer']}{history}"
    return f"one iteration at {size}, {choices}"


def _write(path: Path, title: str, iteration: Modelled) -> None:
    rows = [asdict(row) for row in [*iteration.rows, iteration.total]]
    data = {"title": title, "measured": False, "rows": rows, **asdict(iteration)}
    with atomic_path(path) as partial:
        partial.write_text(json.dumps(data, indent=1) + "\n", "utf-8")
