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
from stylebench.bench.workloads.precisions import chosen
from stylebench.image.load import fit, resize
from stylebench.image.save import save_picture, to_pil
from stylebench.model.presets import PRESETS
from stylebench.model.vgg import Weights
from stylebench.model.weights import load_weights
from stylebench.parity.harness import Baseline, Comparison, baseline, compare

_SIZE, _ITERATIONS = (256, 192), 100
_QUICK_SIZE, _QUICK_ITERATIONS = (64, 48), 6
_PICTURE = 256  # px, the longest side of a saved picture
_AMPLIFIED = 10  # how much the pictures enlarge differences
_MAIN = "gatys-pytorch"  # the preset that every engine is held to; the others try fused alone
_ENGINES = ("fused", "eager", "compiled")  # the last takes minutes to compile


def jobs(bench: Bench) -> Iterator[Job]:
    """Fused on every preset, the other engines on one; and one case on random weights.

    One job a preset, and one of that case.
    """
    quick = bench.options.quick
    (size,) = bench.sizes(_QUICK_SIZE if quick else _SIZE)
    iterations = _QUICK_ITERATIONS if quick else _ITERATIONS
    for preset in [_MAIN] if quick else [_MAIN, *(p for p in PRESETS if p != _MAIN)]:
        engines = _ENGINES if preset == _MAIN and not quick else ("fused",)
        runs = [(engine, name) for engine in engines for name in bench.precisions(engine)]
        yield _job(bench, preset, runs, size, iterations)
    if not quick:  # other values than a trained network's: no rounding may depend on them
        run = "fused", chosen("fused", bench.device)
        yield _job(bench, _MAIN, [run], size, iterations, load_weights("random"))


def _job(
    bench: Bench,
    preset: str,
    runs: Iterable[tuple[str, str]],
    size: tuple[int, int],
    iterations: int,
    weights: Weights | None = None,
) -> Job:
    """A job of ``runs`` (engine, precision), with ``weights`` in place of the bench's."""
    label = "{}x{}".format(*size) + (f" {weights.name}" if weights else "")
    used = weights or bench.weights
    cases: dict[str, Parameters] = {
        f"{engine} {precision} {preset} {label}": bench.parameters(
            size, engine=engine, precision=precision, preset=preset, iterations=iterations,
            **used.identity,
        )
        for engine, precision in runs
    }  # fmt: skip

    def run(names: Collection[str]) -> Iterator[Case]:
        torch.compiler.reset()  # presets add up to more than a function may be compiled for
        settings = bench.settings(
            preset=preset, size=max(size), iterations=iterations, weights=used
        )
        inputs = bench.inputs(size, settings)
        base = baseline(inputs, settings)
        shape = (base.picture.shape[1], base.picture.shape[2])
        style = inputs.styles[0]
        shared = _saved(
            bench.folder, f"{preset} {weights.name}" if weights else preset,
            content=resize(inputs.content.rgb, shape), reference=base.picture,
            style=resize(style.rgb, fit(style.size, max(shape))),
        )  # fmt: skip

        def measured(name: str) -> Case:
            engine, precision = (str(cases[name][key]) for key in ("engine", "precision"))
            own_settings = replace(settings, engine=engine, precision=precision)
            comparison = compare(inputs, own_settings, base)
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
