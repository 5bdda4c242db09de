"""Compile every kernel for GPUs that are not there, and report registers, memory and spills.

    python -m stylekernels.aot [--arch 90] [--only gram] [--size 512] [--jobs 2] [--json FILE]

Nothing runs: Triton turns each launch into machine code for the architecture, and `cuobjdump`,
which Triton ships, reads registers, shared memory and spills off it. The launches are those of
`workload`, in the configurations that each GPU would select.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from stylekernels.runtime.config import Gpu, assuming, shipped_gpus
from stylekernels.runtime.launch import Launch

GPUS = (
    Gpu("NVIDIA A100", 80, 108, 163 << 10),
    Gpu("NVIDIA GeForce RTX 3090", 86, 82, 99 << 10),
    Gpu("NVIDIA GeForce RTX 4090", 89, 128, 99 << 10),
    Gpu("NVIDIA H200", 90, 132, 227 << 10),
    Gpu("NVIDIA B200", 100, 148, 227 << 10),
    Gpu("NVIDIA GeForce RTX 5090", 120, 170, 99 << 10),
    Gpu("AMD Instinct MI300X", 942, 304, 64 << 10),
)
"""One GPU an architecture: name, sm_NN or gfxNNN, multiprocessors, shared memory of a block."""

WIDE_LOADS = re.compile(r"ld\.global[.\w]*\.v[48]|(?:global|buffer)_load_dwordx4")
INSTRUCTION = re.compile(r"^\s+/\*[0-9a-f]+\*/\s+(?:@!?U?P\w+ )?([A-Z][\w.]*)", re.MULTILINE)
MATRIX_INSTRUCTIONS = ("wgmma.mma_async", "tcgen05.mma", "mma.sync", "v_mfma")


@dataclass(frozen=True)
class Compiled:
    """Resources of one kernel in one configuration on one architecture.

    `shared` and `limit` are bytes a block, `spilled` bytes of local memory a thread, `matrix` the
    matrix instruction found in the assembly, or nothing, `wide_loads` the loads in it of at least
    16 bytes a thread to registers.
    """

    arch: int
    case: str
    kernel: str
    registers: int
    shared: int
    limit: int
    spilled: int
    matrix: str
    wide_loads: int

    @property
    def fault(self) -> str:
        """Its spills and excess of shared memory, in words; empty if there are none."""
        faults = []
        if self.spilled:
            faults.append(f"spills {self.spilled} bytes")
        if self.shared > self.limit:
            faults.append(f"{self.shared} bytes of shared memory, {self.limit} are there")
        return ", ".join(faults)


class _Absent:
    """Triton's driver for a GPU that is not there: it can be compiled for."""

    def __init__(self, gpu: Gpu) -> None:
        self._gpu = gpu

    def get_current_target(self) -> Any:
        from triton.backends.compiler import GPUTarget

        if is_amd(self._gpu):
            return GPUTarget("hip", f"gfx{self._gpu.arch}", 64)
        return GPUTarget("cuda", self._gpu.arch, 32)

    def get_current_device(self) -> int:
        return self._gpu.arch  # what a kernel has compiled is kept by device

    def get_current_stream(self, device: int) -> int:
        return 0 * device


@contextmanager
def compiling_for(gpu: Gpu) -> Iterator[None]:
    """Plan launches on meta tensors, and compile them, for a GPU that is not there."""
    from triton.runtime.driver import driver

    driver.set_active(_Absent(gpu))
    try:
        with assuming(gpu):
            yield
    finally:
        driver.set_active(None)  # the next use finds the one that is there


def built(launch: Launch) -> Any:
    """Compile one planned launch as the launch itself would: within `compiling_for`.

    The result is Triton's, and lies in its cache on the disk, where the launch finds it.
    """
    return launch.kernel.warmup(
        **launch.arguments,
        **launch.constants,
        grid=launch.grid,
        num_warps=launch.num_warps,
        num_stages=launch.num_stages,
        enable_fp_fusion=True,
    )


def is_amd(gpu: Gpu) -> bool:
    """Whether the architecture is a gfxNNN."""
    return gpu.arch > 900


def compile_launch(launch: Launch, gpu: Gpu, case: str) -> Compiled:
    """Compile one planned launch for the architecture of `gpu`."""
    with compiling_for(gpu):
        return read_off(built(launch), gpu, case)


def read_off(kernel: Any, gpu: Gpu, case: str) -> Compiled:
    """Read off the resources that a compiled kernel takes."""
    amd = is_amd(gpu)
    assembly = kernel.asm["amdgcn" if amd else "ptx"]
    registers, spilled = amd_resources(assembly) if amd else resources(kernel.asm["cubin"])
    matrix = [name for name in MATRIX_INSTRUCTIONS if name in assembly]
    return Compiled(
        arch=gpu.arch,
        case=case,
        kernel=kernel.metadata.name,
        registers=registers,
        shared=kernel.metadata.shared,
        limit=gpu.shared_memory,
        spilled=spilled,
        matrix="".join(matrix[:1]),
        wide_loads=len(WIDE_LOADS.findall(assembly)),
    )


def resources(cubin: bytes) -> tuple[int, int]:
    """Return registers and bytes of local memory a thread, as cuobjdump reads them off a cubin."""
    text = _cuobjdump(cubin, "--dump-resource-usage")
    match = re.search(r"REG:(\d+) STACK:(\d+) SHARED:\d+ LOCAL:(\d+)", text)
    if match is None:
        raise RuntimeError(f"cuobjdump named no resources: {text!r}")
    return int(match[1]), int(match[2]) + int(match[3])


def instructions(cubin: bytes) -> Counter[str]:
    """Return how often each instruction stands in a cubin, by its whole name as in `STG.E.128`."""
    return Counter(INSTRUCTION.findall(_cuobjdump(cubin, "--dump-sass")))


def _cuobjdump(cubin: bytes, option: str) -> str:
    """Return the text of the tool that Triton ships."""
    import triton

    tool = Path(triton.__file__).parent / "backends/nvidia/bin/cuobjdump"
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "kernel.cubin"
        path.write_bytes(cubin)
        command = [str(tool), option, str(path)]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def amd_resources(assembly: str) -> tuple[int, int]:
    """Return vector registers, and spilled registers in bytes, as AMD's assembly states them."""
    spills = re.findall(r"[sv]gpr_spill_count:\s+(\d+)", assembly)
    registers = re.search(r"\.vgpr_count:\s+(\d+)", assembly)
    if registers is None or len(spills) != 2:
        raise RuntimeError("the assembly names no resources")
    return int(registers[1]), 4 * sum(map(int, spills))


def compile_for(gpu: Gpu, size: int, only: str) -> Iterator[Compiled]:
    """Compile all launches whose case holds every word of `only`, each distinct one once."""
    from stylekernels.tuning.workload import cases

    done = set()
    with compiling_for(gpu):
        for name, row, case in cases(size, torch.device("meta")):
            if not set(only.split()) <= set(name.split()):
                continue
            for launch in row(case):
                kernel = built(launch)
                if kernel.hash not in done:
                    done.add(kernel.hash)
                    yield read_off(kernel, gpu, name)


def _report(task: tuple[Gpu, int, str]) -> list[Compiled]:
    return list(compile_for(*task))


def compile_all(gpus: list[Gpu], size: int, only: list[str], jobs: int) -> Iterator[list[Compiled]]:
    """Compile for several GPUs, `jobs` processes at a time; yield each one's as it is done."""
    tasks = [(gpu, size, words) for words in only for gpu in gpus]
    if jobs == 1:
        yield from map(_report, tasks)
        return
    with ProcessPoolExecutor(jobs) as pool:
        yield from pool.map(_report, tasks)


def main(arguments: list[str] | None = None) -> int:
    """Run the command; return 1 if a kernel spills or does not fit."""
    parser = argparse.ArgumentParser(prog="python -m stylekernels.aot", description=__doc__)
    parser.add_argument("--arch", type=int, action="append", help="as in sm_90; all by default")
    parser.add_argument("--only", action="append", help="words that the case must hold")
    parser.add_argument("--size", type=int, default=512, help="of the image, pixels square")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--json", type=Path, help="also write the table here")
    options = parser.parse_args(arguments)
    known = [*GPUS, *(gpu for gpu in shipped_gpus() if gpu not in GPUS)]
    gpus = [gpu for gpu in known if options.arch is None or gpu.arch in options.arch]
    if not gpus:
        parser.error(f"--arch must be among {sorted({gpu.arch for gpu in known})}")
    table: list[Compiled] = []
    write = sys.stdout.write
    write("arch  regs  shared  spill  matrix           kernel                  first case\n")
    for report in compile_all(gpus, options.size, options.only or [""], options.jobs):
        for row in report:
            write(
                f"{row.arch:4d}  {row.registers:4d}  {row.shared:6d}  {row.spilled:5d}  "
                f"{row.matrix or '-':15s}  {row.kernel:22s}  {row.case}  {row.fault}\n"
            )
        table += report
        sys.stdout.flush()
    if not table:
        parser.error(f"--only {options.only} matches no case")
    faults = [row for row in table if row.fault]
    for arch, gpu in {gpu.arch: gpu for gpu in gpus}.items():
        all_of, bad = (sum(row.arch == arch for row in rows) for rows in (table, faults))
        write(f"{'gfx' if is_amd(gpu) else 'sm_'}{arch}: {all_of} kernels, {bad} with faults\n")
    write(f"{len(table)} kernels compiled, {len(faults)} with faults\n")
    if options.json:
        options.json.write_text(json.dumps([asdict(row) for row in table], indent=1) + "\n")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
