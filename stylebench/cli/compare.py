"""``stylebench compare``: the parity of engines as a table, a strip of pictures and JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from math import nan
from pathlib import Path

from rich.table import Table
from rich.text import Text

from stylebench.cli.destinations import check_folder_of
from stylebench.console import stdout_console
from stylebench.files.writing import atomic_path
from stylebench.image.examples import example, example_name
from stylebench.image.montage import side_by_side
from stylebench.image.save import save_picture, to_pil
from stylebench.parity.comparison import without_nan
from stylebench.parity.harness import Baseline, Comparison, baseline, compare
from stylebench.transfer.device import resolve_precision
from stylebench.transfer.prepare import load_inputs
from stylebench.transfer.settings import Settings

_ASPECT = (640, 480)  # of the examples
_AMPLIFIED = 10  # how much the strip enlarges differences


def compare_visibly(
    content: Path | None,
    styles: Sequence[Path] | None,
    wanted: Sequence[Settings],
    folder: Path,
) -> bool:
    """Compare engines with the reference and show it; return whether all are within tolerance.

    Writes strip.png (reference, then each engine with its difference x 10) and compare.json.

    Args:
        content: the image to repaint; the example where there is none.
        styles: likewise.
        wanted: one or more, which differ in engine and precision alone.
        folder: to write into.

    Raises:
        ValueError: a setting or image that cannot be, or a precision that an engine has not.
    """
    read = [*([content] if content else []), *(styles or [])]
    folder = check_folder_of(folder, ("strip.png", "compare.json"), read)
    for settings in wanted:
        resolve_precision(settings)  # refuses what cannot be, before anything is computed
    pictures = {
        "content": content.name if content else example_name("content"),
        "style": [style.name for style in styles] if styles else example_name("style"),
    }
    inputs = load_inputs(
        content or example("content", *_ASPECT), styles or example("style", *_ASPECT), wanted[0]
    )
    console = stdout_console()
    with console.status("reference"):
        base = baseline(inputs, wanted[0])
    comparisons = []
    for settings in wanted:
        with console.status(f"{settings.engine} {settings.precision}"):
            comparisons.append(compare(inputs, settings, base))
    (again,) = base.again(1)
    itself = base.ended.likeness(again.picture)
    for comparison in comparisons:
        console.print(_table(comparison))
        console.print(_summary(comparison, base, itself))
    _write(folder, base, comparisons, pictures, itself)
    console.print(f"{folder / 'strip.png'}  {folder / 'compare.json'}")
    return all(comparison.passed for comparison in comparisons)


def _table(comparison: Comparison) -> Table:
    table = Table(title=f"{comparison.engine} {comparison.precision} against the fp64 reference")
    for heading in ("what", "relative error", "allowed", ""):
        table.add_column(heading, justify="left" if heading == "what" else "right")
    for check in comparison.checks:
        verdict = "ok" if check.passed else Text("FAIL", "bold red")
        table.add_row(check.what, f"{check.value:.2e}", f"{check.limit:.2e}", verdict)
    for check in comparison.unjudged:
        table.add_row(
            check.what, f"{check.value:.2e}", "", "plain PyTorch's is as wrong: not judged"
        )
    return table


def _summary(comparison: Comparison, base: Baseline, itself: Mapping[str, float]) -> str:
    steps = sorted({0, len(base.losses) // 4, len(base.losses) // 2, len(base.losses) - 1})
    curves = [
        f"{name:>10}  " + "  ".join(f"{loss:>11.5g}" for loss in _at(steps, losses))
        for name, losses in (("reference", base.losses), (comparison.engine, comparison.losses))
    ]
    heading = f"{'iteration':>10}  " + "  ".join(f"{i + 1:>11}" for i in steps)
    return "\n".join(
        [
            heading,
            *curves,
            f"final loss by the reference: {comparison.final_loss:.6g}, "
            f"its own {base.final_loss:.6g}",
            _likeness("pictures", vars(comparison)),
            _likeness("the reference's, its start moved by 1e-6", itself),
            f"{comparison.engine} {comparison.precision}: "
            + ("within tolerance" if comparison.passed else "OUTSIDE the tolerance"),
        ]
    )


def _likeness(what: str, measures: Mapping[str, float]) -> str:
    return (
        f"{what}: PSNR {measures['psnr']:.1f} dB, SSIM {measures['ssim']:.4f}, "
        f"largest difference {255 * measures['largest_difference']:.1f} of 255"
    )


def _at(steps: Sequence[int], losses: Sequence[float]) -> list[float]:
    """The losses at ``steps``, the last one where a run ended before; NaN where it has none."""
    return [losses[min(step, len(losses) - 1)] if losses else nan for step in steps]


def _write(
    folder: Path,
    base: Baseline,
    comparisons: Sequence[Comparison],
    names: Mapping[str, object],
    itself: Mapping[str, float],
) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    pictures = [base.picture]
    for comparison in comparisons:
        difference = (comparison.picture - base.picture).abs() * _AMPLIFIED
        pictures += [comparison.picture, difference.clamp(0, 1)]
    montage = side_by_side([to_pil(picture) for picture in pictures], base.picture.shape[1])
    save_picture(folder / "strip.png", montage)
    record = {
        "parameters": {**base.problem.parameters, **names},
        "reference": {
            "losses": base.losses,
            "final_loss": base.final_loss,
            "itself": without_nan(dict(itself)),  # of equal pictures PSNR is infinite
        },
        "comparisons": [comparison.as_json() for comparison in comparisons],
        "passed": all(comparison.passed for comparison in comparisons),
    }
    with atomic_path(folder / "compare.json") as partial:
        partial.write_text(json.dumps(record, indent=1, default=str, allow_nan=False))
