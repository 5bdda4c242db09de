"""The device, engine, precision, optimizer and its numbers that ``auto`` comes to."""

from __future__ import annotations

import torch

from stylebench.engines import ENGINES
from stylebench.model.precision import multiplies_fp64
from stylebench.transfer.settings import HISTORY, Settings
from stylekernels.native import has_native_code

_DEVICES = ("cpu", "cuda", "mps")
_BYTES_A_PAIR = 24  # a pixel: two vectors of three fp32 values
_HISTORY_BYTES, _LEAST_HISTORY = 2_500_000_000, 20
_ADAM_RATE = 0.02  # of the image's range, as crowsonkb/style-transfer-pytorch


def choose_device(device: str | torch.device | None) -> torch.device:
    """The device asked for, or else the best there is; ValueError where it is not to be had."""
    if device is None:
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        chosen = torch.device(device)
    except Exception as error:  # torch raises errors of many types
        raise _unusable(device, "it is no device") from error
    if chosen.type not in _DEVICES:
        raise _unusable(device, "there is no code for it")
    here = list_devices()
    named = chosen.type if chosen.index is None else f"{chosen.type}:{chosen.index}"
    if not any(named in (name, name.partition(":")[0], f"{name}:0") for name in here):
        raise _unusable(device, f"this machine has {', '.join(here)}")
    try:
        torch.empty(1, device=chosen)
    except Exception as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise _unusable(device, reason[:200]) from error
    return chosen


def list_devices() -> list[str]:
    """The devices of this machine that there is code for, as ``cpu``, ``cuda:0`` or ``mps``."""
    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    apple = ["mps"] if torch.backends.mps.is_available() else []
    return ["cpu", *(f"cuda:{index}" for index in range(gpus)), *apple]


def _unusable(device: str | torch.device, reason: str) -> ValueError:
    return ValueError(
        f"device {str(device)[:80]!r} cannot be used here ({reason}): expected cpu, cuda, "
        "cuda:N or mps, as 'stylebench doctor' lists them"
    )


def choose_engine(settings: Settings, device: torch.device) -> str:
    """The engine asked for; ``auto`` is the fastest that is right on ``device``."""
    if settings.engine != "auto":
        return settings.engine
    return "reference" if device.type == "mps" or settings.precision == "fp64" else "fused"


def choose_precision(settings: Settings, engine: str, device: torch.device) -> str:
    """The precision asked for, if the engine and the device have it.

    ``auto`` is fp16 on GPUs with tensor cores and bf16 on CPUs that multiply it faster than
    Winograd's convolutions go, fp32 elsewhere. On GPUs fp16 is as fast as bf16, but has eight times
    the resolution, and rescaling gives it the range.

    Raises:
        ValueError: the engine does not offer the precision, or the device does not multiply it.
    """
    offered = ENGINES[engine].precisions
    wanted = settings.precision
    if wanted == "auto":
        wanted = (
            "fp16" if multiplies_fp16(device) else "bf16" if prefers_bf16(device, engine) else ""
        )
        return wanted if wanted in offered else offered[0]
    if wanted not in offered:
        raise ValueError(
            f"engine {engine!r} does not compute in {wanted}: expected one of {', '.join(offered)}"
        )
    if wanted == "fp64" and not multiplies_fp64(device):
        raise ValueError(
            f"fp64 is not to be had on {str(device)!r}: expected fp32 here, or device cpu"
        )
    if wanted == "tf32" and not multiplies_tf32(device):
        raise ValueError(
            f"tf32 needs a CUDA GPU of compute capability 8.0 or higher, and the device is "
            f"{str(device)!r}: expected fp32 here, or bf16 for speed"
        )
    return wanted


def choose_optimizer(settings: Settings, engine: str) -> str:
    """The optimizer asked for; ``auto`` is torch's own where it is the yardstick or needed.

    Raises:
        ValueError: tolerances are asked for, which another optimizer does not test.
    """
    tests = max(settings.tolerance_grad, settings.tolerance_change) >= 0  # takes the host
    if settings.distributed:
        if tests or settings.optimizer == "torch-lbfgs":
            raise ValueError(
                "optimizer 'torch-lbfgs', which tolerances take, is one process's: choose lbfgs or "
                "adam, and no tolerances, or drop distributed"
            )
        return "lbfgs" if settings.optimizer == "auto" else settings.optimizer
    if settings.optimizer == "auto":
        return "torch-lbfgs" if engine == "reference" or tests else "lbfgs"
    if settings.optimizer == "lbfgs" and tests:
        raise ValueError(
            "optimizer 'lbfgs' does not test for convergence: drop the tolerances, or choose "
            "torch-lbfgs"
        )
    return settings.optimizer


def choose_history(settings: Settings, pixels: int) -> int:
    """The pairs asked for, or else 100 where they are small beside the network's maps."""
    if settings.history is not None:
        return settings.history
    return min(HISTORY, max(_LEAST_HISTORY, _HISTORY_BYTES // (_BYTES_A_PAIR * pixels)))


def choose_learning_rate(rate: float | None, optimizer: str) -> float:
    """The learning rate asked for, or else the optimizer's: of L-BFGS, or of the image's range."""
    return rate or (_ADAM_RATE if optimizer == "adam" else 1.0)


def multiplies_fp16(device: torch.device) -> bool:
    """Whether ``device`` is a GPU whose tensor cores multiply fp16."""
    return device.type == "cuda" and torch.cuda.get_device_capability(device) >= (7, 0)


def multiplies_tf32(device: torch.device) -> bool:
    """Whether ``device`` is a GPU whose tensor cores multiply TF32."""
    return device.type == "cuda" and torch.cuda.get_device_capability(device) >= (8, 0)


def multiplies_bf16(device: torch.device) -> bool:
    """Whether ``device`` is a CPU that multiplies bf16 itself; else bf16 only slows down."""
    capabilities = torch.cpu.get_capabilities() if device.type == "cpu" else {}
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))


def prefers_bf16(device: torch.device, engine: str) -> bool:
    """Whether ``engine`` is faster in bf16 than in fp32 on a CPU.

    AVX512-BF16 multiplies twice as many numbers at once, AMX many more; Winograd, which the fused
    engine has for fp32, needs a quarter of the products.
    """
    if engine != "fused" or not has_native_code():
        return multiplies_bf16(device)
    return device.type == "cpu" and bool(torch.cpu.get_capabilities().get("amx_bf16"))


def resolve_precision(settings: Settings) -> str:
    """The precision that a run computes in before its polish, on the device it would use."""
    device = choose_device(settings.device)
    return choose_precision(settings, choose_engine(settings, device), device)
