"""``stylebench doctor``: versions, devices and weights here, and the choices of a run."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version

import torch

from stylebench.cli.plan import plan_of_size, plan_table
from stylebench.model.original import PACKAGE, original_file
from stylebench.model.weights import (
    CAFFE_FILES,
    WeightsError,
    caffe_file,
    checkpoint_folder,
    imagenet_file,
    load_weights,
)
from stylebench.transfer.device import choose_device, choose_engine, choose_precision
from stylebench.transfer.settings import Settings
from stylekernels.native import cache_folder, has_native_code
from stylekernels.ops.conv.op import processor

_PACKAGES = (
    "stylebench",
    "torch",
    "torchvision",
    "triton",
    "pillow",
    "numpy",
    "pandas",
    "llvmlite",
    PACKAGE,
)


def report(size: int | None = None) -> str:
    """Versions, devices, weights, and the choices that ``auto`` comes to, line by line.

    Args:
        size: longest side in px of a run whose plan is told as well.

    Raises:
        ValueError: ``size`` is too small.
    """
    lines = ["versions", f"  python {platform.python_version()} on {platform.platform()}"]
    lines += [f"  {package} {_version(package)}" for package in _PACKAGES]
    lines += ["devices", f"  cpu: {_cpu()}, {torch.get_num_threads()} threads"]
    lines.append(f"  native code: {_native_code()}")
    if torch.cuda.is_available():
        for index in range(torch.cuda.device_count()):
            properties = torch.cuda.get_device_properties(index)
            memory = properties.total_memory / 2**30
            lines.append(f"  cuda:{index}: {properties.name}, {memory:.0f} GiB")
    else:
        lines.append("  cuda: none")
    lines.append(f"  mps: {'yes' if torch.backends.mps.is_available() else 'none'}")
    lines += _weights()
    settings = Settings()
    device = choose_device(None)
    engine = choose_engine(settings, device)
    lines += [
        "a run would use",
        f"  engine {engine}, {choose_precision(settings, engine, device)}, on {device}",
        *_auto_weights(),
    ]
    if size is not None:
        plan = plan_table(plan_of_size(size))
        lines += [
            f"a run at {size} x {size} px would take",
            *(f"  {line}" for line in plan.split("\n")),
        ]
    return "\n".join(lines)


def _native_code() -> str:
    if not has_native_code():
        return "none, so fp32 convolutions are direct: pip install llvmlite"
    return f"{processor()}, kept in {cache_folder()}"


def _weights() -> list[str]:
    """The sources of weights, and which of them are there."""
    original, caffe = original_file(), caffe_file()
    return [
        f"weights (torch's cache is {checkpoint_folder()})",
        f"  original: in 8 bits, of the package {PACKAGE}, {'found' if original else 'missing'}",
        f"  gatys: {f'{caffe.name} found' if caffe else f'{CAFFE_FILES[0]} not in the cache'}",
        f"  imagenet: {_imagenet()}",
        "  random: always",
    ]


def _imagenet() -> str:
    try:
        file = imagenet_file()
    except ImportError:
        return "torchvision is not installed"
    return f"{file.name} {'found' if file.is_file() else 'not in the cache'}"


def _auto_weights() -> list[str]:
    """Name, hash and origin of the weights that ``auto`` takes, which are read for it."""
    try:
        weights = load_weights("auto")
    except WeightsError as error:
        return [f"  no weights: {error}"]
    return [
        f"  weights {weights.name}, SHA-256 {weights.sha256}",
        f"    from {caffe_file() or original_file()}",
    ]


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def _cpu() -> str:
    try:
        with open("/proc/cpuinfo") as lines:  # noqa: PTH123  # not a file on disk
            names = [
                line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")
            ]
        return names[0]
    except (OSError, IndexError):
        return platform.processor() or platform.machine()
