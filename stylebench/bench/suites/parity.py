"""``parity``: engines held against the fp64 reference, whole runs included, with their pictures."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import replace
from math import isfinite
from pathlib import Path

import torch
from torch import Tensor

from stylebench.bench.machine.probe import slug
from stylebench.bench.records.record import Case, Parity, RecordedCheck
from stylebench.bench.suites.base import Bench, Job, Parameters, isolate_each
from stylebench.bench.workloads.parity_gate import ORACLE
from stylebench.image.load import fit, resize
from stylebench.image.save import save_picture, to_pil
from stylebench.model.presets import PRESETS
from stylebench.parity.harness import Baseline, Comparison, baseline, compare

_SIZE, _ITERATIONS = (256, 192), 100
_QUICK_SIZE, _QUICK_ITERATIONS = (64, 48), 6
_PICTURE = 256  # px, the longest side of a saved picture
_AMPLIFIED = 10  # how much the pictures enlarge differences
_MAIN = "gatys-pytorch"  # the preset that every engine is held to; the others try fused alone
_ENGINES = ("eager", "compiled", "fused")


def jobs(bench: Bench) -> Iterator[Job]:
    """Fused on every preset, the other engines on one.

    One job a preset.
    """
    quick = bench.options.quick
    (size,) = bench.sizes(_QUICK_SIZE if quick else _SIZE)
    iterations = _QUICK_ITERATIONS if quick else _ITERATIONS
    for preset in [_MAIN] if quick else [_MAIN, *(p for p in PRESETS if p != _MAIN)]:
        engines = _ENGINES if preset == _MAIN and not quick else ("fused",)
        yield _job(bench, preset, engines, size, iterations)


def _job(
    bench: Bench, preset: str, engines: Iterable[str], size: tuple[int, int], iterations: int
) -> Job:
    width, height = size
    cases: dict[str, Parameters] = {
        f"{engine} {precision} {preset} {width}x{height}": bench.parameters(
            size, engine=engine, precision=precision, preset=preset, iterations=iterations
        )
        for engine in engines
        for precision in bench.precisions(engine)
    }

    def run(names: Collection[str]) -> Iterator[Case]:
        torch.compiler.reset()  # presets add up to more than a function may be compiled for
        settings = bench.settings(preset=preset, size=max(size), iterations=iterations)
        inputs = bench.inputs(size, settings)
        base = baseline(inputs, settings)
        shape = (base.picture.shape[1], base.picture.shape[2])
        shared = _saved(
            bench.folder, preset,
            content=resize(inputs.content.rgb, shape), style=inputs.styles[0].rgb,
            reference=base.picture,
        )  # fmt: skip

        def measured(name: str) -> Case:
            engine, precision = (str(cases[name][key]) for key in ("engine", "precision"))
            chosen = replace(settings, engine=engine, precision=precision)
            comparison = compare(inputs, chosen, base)
            checks = [RecordedCheck.of(one.what, one.value, one.limit) for one in comparison.checks]
            wrong = [check.what for check in checks if not check.passed]
            difference = (comparison.picture - base.picture).abs() * _AMPLIFIED
            own = _saved(
                bench.folder, name, output=comparison.picture, difference=difference.clamp(0, 1)
            )
            return Case(
                name=name,
                parameters=cases[name],
                status="parity failed" if wrong else "ok",
                note=f"outside the tolerance: {', '.join(wrong)}" if wrong else None,
                parity=Parity(ORACLE, checks),
                pictures=shared | own,
                values=_values(comparison, base),
            )

        yield from isolate_each(cases, measured, names)

    return Job(cases, run)


def _values(comparison: Comparison, base: Baseline) -> dict[str, float]:
    values = {
        "final loss over the reference's": comparison.final_loss / base.final_loss,
        "psnr": comparison.psnr,
        "ssim": comparison.ssim,
        "largest difference": comparison.largest_difference,
    }
    return {name: value for name, value in values.items() if isfinite(value)}


def _saved(folder: Path | None, name: str, **pictures: Tensor) -> dict[str, str]:
    """Key -> file name of each picture [3, H, W], saved in ``folder`` where there is one."""
    if folder is None:
        return {}
    folder.mkdir(parents=True, exist_ok=True)
    files: dict[str, str] = {}
    for key, picture in pictures.items():
        height, width = picture.shape[1:]
        if max(height, width) > _PICTURE:
            picture = resize(picture, fit((height, width), _PICTURE))
        files[key] = f"{slug(f'{name} {key}')}.png"
        save_picture(folder / files[key], to_pil(picture))
    return files
