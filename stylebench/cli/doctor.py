"""``stylebench doctor``: versions, devices and weights here, and the choices of a run."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version

import torch

from stylebench.model.weights import CAFFE_FILES, caffe_file, checkpoint_folder, imagenet_file
from stylebench.transfer.device import choose_device, choose_engine, choose_precision
from stylebench.transfer.settings import Settings

_PACKAGES = ("stylebench", "torch", "torchvision", "triton", "pillow", "numpy", "pandas")


def report() -> str:
    """Versions, devices, weights, and the choices that ``auto`` comes to, line by line."""
    lines = ["versions", f"  python {platform.python_version()} on {platform.platform()}"]
    lines += [f"  {package} {_version(package)}" for package in _PACKAGES]
    lines += ["devices", f"  cpu: {_cpu()}, {torch.get_num_threads()} threads"]
    if torch.cuda.is_available():
        for index in range(torch.cuda.device_count()):
            properties = torch.cuda.get_device_properties(index)
            memory = properties.total_memory / 2**30
            lines.append(f"  cuda:{index}: {properties.name}, {memory:.0f} GiB")
    else:
        lines.append("  cuda: none")
    lines.append(f"  mps: {'yes' if torch.backends.mps.is_available() else 'none'}")
    imagenet, caffe = imagenet_file(), caffe_file()
    lines += [
        f"weights in {checkpoint_folder()}",
        f"  imagenet: {imagenet.name} {'found' if imagenet.is_file() else 'not there yet'}",
        f"  gatys: {caffe.name + ' found' if caffe else ' or '.join(CAFFE_FILES) + ' not there'}",
        "  random: always",
    ]
    settings = Settings()
    device = choose_device(None)
    engine = choose_engine(settings, device)
    weights = "imagenet" if imagenet.is_file() else "imagenet if it can be downloaded, else random"
    lines += [
        "a run would use",
        f"  engine {engine}, {choose_precision(settings, engine, device)}, on {device}",
        f"  weights {weights}",
    ]
    return "\n".join(lines)


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
