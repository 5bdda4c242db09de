"""Modules of LLVM's IR compiled for this processor, and kept on disk for the next start.

What is kept is found by the sources that would write the module again: writing it takes longer than
loading the machine code.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from enum import IntEnum
from functools import cache
from pathlib import Path
from threading import Lock
from typing import Any, TypeVar

import llvmlite
import llvmlite.binding as llvm
import torch
from llvmlite import ir

from stylekernels.native.folder import cache_folder, keep, read_kept
from stylekernels.native.parallel import parallel
from stylekernels.native.sources import sources_hash

_DIGEST = 32  # bytes of SHA-256, before the code
_lock = Lock()
_engines: dict[str, Any] = {}  # by their files' names; kept, as a thread may be in their code
_Place = TypeVar("_Place", bound=IntEnum)


@cache
def host() -> tuple[str, str]:
    """Name and features of this processor, as LLVM has them."""
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    return llvm.get_host_cpu_name(), llvm.get_host_cpu_features().flatten()


@cache
def sources() -> str:
    """SHA-256 of the sources that native code is written by, and of llvmlite's version."""
    package = Path(__file__).parents[1]
    written_by = f"{llvmlite.__version__} {sources_hash([package / 'native', package / 'ops'])}"
    return hashlib.sha256(written_by.encode()).hexdigest()


class Library:
    """Functions in machine code, which live as long as the process does.

    Args:
        build: writes their module, a function of a source file.
        lanes: floats of a vector, which ``build`` is told.
    """

    def __init__(self, build: Callable[[int], ir.Module], lanes: int) -> None:
        written_by = (build.__module__, build.__qualname__, str(lanes), *host(), sources())
        name = hashlib.sha256("\0".join(written_by).encode()).hexdigest()[:32]
        with _lock:
            if name not in _engines:
                _engines[name] = _loaded(name, lambda: build(lanes))
            self._engine = _engines[name]

    def address(self, function: str) -> int:
        """The address of a function by its name in the module."""
        return int(self._engine.get_function_address(function))

    def run(self, function: str, arguments: Mapping[_Place, int]) -> None:
        """Call a function on as many threads as torch has, and wait for them.

        Args:
            function: its name in the module.
            arguments: numbers and addresses by their places; 0 where there is none.
        """
        places = type(next(iter(arguments)))
        values = [arguments.get(place, 0) for place in places]
        parallel(self.address(function), values, torch.get_num_threads())


def _loaded(name: str, write: Callable[[], ir.Module]) -> Any:
    """LLVM's engine with the machine code of a module, from the disk where ``name`` is kept."""
    file = cache_folder() / f"{name}.o"
    code = _read(file)
    if code is None:
        code = _compiled(str(write()))
        keep(file, hashlib.sha256(code).digest() + code)
    engine = llvm.create_mcjit_compiler(llvm.parse_assembly(""), _machine())
    engine.add_object_file(llvm.ObjectFileRef.from_data(code))
    engine.finalize_object()
    return engine


def _compiled(text: str) -> bytes:
    """The machine code of a module."""
    machine, module = _machine(), llvm.parse_assembly(text)
    tuning = llvm.create_pipeline_tuning_options(speed_level=3)
    passes = llvm.create_pass_builder(machine, tuning)
    passes.getModulePassManager().run(module, passes)
    return bytes(machine.emit_object(module))


def _machine() -> Any:
    name, features = host()
    target = llvm.Target.from_default_triple()
    return target.create_target_machine(name, features, opt=3, jit=True)


def _read(file: Path) -> bytes | None:
    """The machine code in ``file``, if it is whole: what is damaged would be run."""
    kept = read_kept(file)
    if kept is None:
        return None
    digest, code = kept[:_DIGEST], kept[_DIGEST:]
    return code if hashlib.sha256(code).digest() == digest else None
