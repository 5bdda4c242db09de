"""GPUs by their data sheets: peaks that no kernel passes, and few reach.

Tensor-core rates are those of dense operands with fp32 sums; sheets print twice as much, for sparse
ones. fp32 and fp64 are the rates without tensor cores.

- H100: "NVIDIA H100 Tensor Core GPU", data sheet and architecture white paper, SXM5, 80 GB.
- H200: "NVIDIA H200 Tensor Core GPU", data sheet, SXM, 141 GB.
- A100: "NVIDIA A100 Tensor Core GPU", data sheet and architecture white paper, SXM4, 80 GB.
- 4090: "NVIDIA Ada GPU Architecture", white paper, appendix on the GeForce RTX 4090.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from stylekernels.runtime.config import Gpu
from stylekernels.runtime.work import Arithmetic, Work

GAP = 1e-6
"""Seconds between a kernel and the next in a captured graph, about: no data sheet has it."""


@dataclass(frozen=True)
class DataSheet:
    """A GPU model's peaks.

    Attributes:
        gpu: name, architecture, multiprocessors and shared memory, which launches are planned by.
        bandwidth: of its memory, bytes a second.
        l2: bytes of its second-level cache.
        peaks: arithmetic -> operations a second.
    """

    gpu: Gpu
    bandwidth: float
    l2: int
    peaks: Mapping[Arithmetic, float]

    def seconds(self, work: Work, cached: int = 0) -> float:
        """Return the least time of a kernel: that of its bytes or of its operations.

        `cached` of the bytes cost nothing.
        """
        moved = (work.read + work.written - cached) / self.bandwidth
        return max(moved, work.flops / self.peaks[work.arithmetic])


def _peaks(half: float, tf32: float, fp32: float, fp64: float) -> Mapping[Arithmetic, float]:
    """Return rates from TFLOP/s."""
    peaks: dict[Arithmetic, float] = {"fp16": half, "bf16": half, "tf32": tf32}
    peaks |= {"fp32": fp32, "fp64": fp64}
    return MappingProxyType({name: 1e12 * rate for name, rate in peaks.items()})


_HOPPER = _peaks(half=989.4, tf32=494.7, fp32=66.9, fp64=33.5)

DATA_SHEETS: Mapping[str, DataSheet] = MappingProxyType(
    {
        "h100": DataSheet(
            Gpu("NVIDIA H100 80GB HBM3", 90, 132, 227 << 10), 3.35e12, 50 << 20, _HOPPER
        ),
        "h200": DataSheet(Gpu("NVIDIA H200", 90, 132, 227 << 10), 4.8e12, 50 << 20, _HOPPER),
        "a100": DataSheet(
            Gpu("NVIDIA A100-SXM4-80GB", 80, 108, 163 << 10),
            2.039e12,
            40 << 20,
            _peaks(half=312.0, tf32=156.0, fp32=19.5, fp64=9.7),
        ),
        "4090": DataSheet(
            Gpu("NVIDIA GeForce RTX 4090", 89, 128, 99 << 10),
            1.008e12,
            72 << 20,
            _peaks(half=165.2, tf32=82.6, fp32=82.6, fp64=1.29),
        ),
    }
)
"""Name -> data sheet."""
