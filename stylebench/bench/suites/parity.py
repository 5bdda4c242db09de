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
from stylebench.transfer.inputs import Inputs
from stylebench.transfer.settings import Settings

_SIZE, _ITERATIONS = (256, 192), 100
_QUICK_SIZE, _QUICK_ITERATIONS = (64, 48), 6
_PICTURE = 256  # px, the longest side of a saved picture
_AMPLIFIED = 10  # how much the pictures enlarge differences
_MAIN = "gatys-pytorch"  # the preset that every engine is held to; the others try fused alone
_ENGINES = ("eager", "compiled", "fused")


class ParitySuite:
    """Fused on every preset, the other engines on one."""

    name = "parity"

    def jobs(self, bench: Bench) -> Iterator[Job]:
        """One job a preset."""
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
        f"{engine} {precision} {preset} {width}x{height}": {
            **bench.common(), "engine": engine, "precision": precision, "preset": preset,
            "width": width, "height": height, "optimizer": "lbfgs", "history": 20, "seed": 0,
            "iterations": iterations,
        }
        for engine in engines
        for precision in bench.precisions(engine)
    }  # fmt: skip

    def run(names: Collection[str]) -> Iterator[Case]:
        torch.compiler.reset()  # presets add up to more than a function may be compiled for
        settings = bench.settings(preset=preset, size=max(size), iterations=iterations)
        inputs = bench.inputs(size, settings)
        base = baseline(inputs, settings)
        gallery = _Gallery(bench.folder)
        shared = gallery.shared(preset, inputs, base)

        def measured(name: str) -> Case:
            return _case(name, cases[name], inputs, settings, base, gallery, shared)

        yield from isolate_each(cases, measured, names)

    return Job(cases, run)


def _case(
    name: str,
    parameters: Parameters,
    inputs: Inputs,
    settings: Settings,
    base: Baseline,
    gallery: _Gallery,
    shared: dict[str, str],
) -> Case:
    chosen = replace(
        settings, engine=str(parameters["engine"]), precision=str(parameters["precision"])
    )
    comparison = compare(inputs, chosen, base)
    checks = [RecordedCheck.of(check.what, check.value, check.limit) for check in comparison.checks]
    wrong = [check.what for check in checks if not check.passed]
    return Case(
        name=name,
        parameters=parameters,
        status="parity failed" if wrong else "ok",
        note=f"outside the tolerance: {', '.join(wrong)}" if wrong else None,
        parity=Parity(ORACLE, checks),
        pictures=shared | gallery.own(name, comparison, base),
        values=_values(comparison, base),
    )


def _values(comparison: Comparison, base: Baseline) -> dict[str, float]:
    values = {
        "final loss over the reference's": comparison.final_loss / base.final_loss,
        "psnr": comparison.psnr,
        "ssim": comparison.ssim,
        "largest difference": comparison.largest_difference,
    }
    return {name: value for name, value in values.items() if isfinite(value)}


class _Gallery:
    """Pictures of a record, in ``folder`` until the record's own is known; none without one."""

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder
        if folder:
            folder.mkdir(parents=True, exist_ok=True)

    def shared(self, preset: str, inputs: Inputs, base: Baseline) -> dict[str, str]:
        """The pictures that all cases of a preset share."""
        shape = (base.picture.shape[1], base.picture.shape[2])
        return {
            **self._kept(f"{preset} content", "content", resize(inputs.content.rgb, shape)),
            **self._kept(f"{preset} style", "style", inputs.styles[0].rgb),
            **self._kept(f"{preset} reference", "reference", base.picture),
        }

    def own(self, name: str, comparison: Comparison, base: Baseline) -> dict[str, str]:
        """The pictures of one case."""
        difference = (comparison.picture - base.picture).abs() * _AMPLIFIED
        return {
            **self._kept(f"{name} output", "output", comparison.picture),
            **self._kept(f"{name} difference", "difference", difference.clamp(0, 1)),
        }

    def _kept(self, name: str, key: str, picture: Tensor) -> dict[str, str]:
        if self._folder is None:
            return {}
        height, width = picture.shape[1:]
        if max(height, width) > _PICTURE:
            picture = resize(picture, fit((height, width), _PICTURE))
        path = self._folder / f"{slug(name)}.png"
        save_picture(path, to_pil(picture))
        return {key: path.name}


SUITE = ParitySuite()
