"""Modules of LLVM's IR compiled for this processor, and kept on disk for the next start."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
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

_DIGEST = 32  # bytes of SHA-256, before the code
_lock = Lock()
_engines: dict[str, Any] = {}  # by the module's text; kept, as a thread may be in their code
_Place = TypeVar("_Place", bound=IntEnum)


@cache
def host() -> tuple[str, str]:
    """Name and features of this processor, as LLVM has them."""
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    return llvm.get_host_cpu_name(), llvm.get_host_cpu_features().flatten()


class Library:
    """Functions in machine code, which live as long as the process does."""

    def __init__(self, module: ir.Module) -> None:
        text = str(module)
        with _lock:
            if text not in _engines:
                _engines[text] = _compiled(text)
            self._engine = _engines[text]

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


def _compiled(text: str) -> Any:
    """LLVM's engine for a module.

    The machine code comes from the disk where this processor compiled the same module before.
    """
    name, features = host()
    target = llvm.Target.from_default_triple()
    machine = target.create_target_machine(name, features, opt=3)
    key = hashlib.sha256("\0".join((text, name, features, llvmlite.__version__)).encode())
    file = cache_folder() / f"{key.hexdigest()[:32]}.o"
    parsed = llvm.parse_assembly(text)
    kept = _read(file)
    if kept is None:
        tuning = llvm.create_pipeline_tuning_options(speed_level=3)
        passes = llvm.create_pass_builder(machine, tuning)
        passes.getModulePassManager().run(parsed, passes)
    engine = llvm.create_mcjit_compiler(parsed, machine)
    engine.set_object_cache(lambda _, code: _write(file, code), lambda _: kept)
    engine.finalize_object()
    return engine


def _read(file: Path) -> bytes | None:
    """The machine code in ``file``, if it is whole: what is damaged would be run."""
    kept = read_kept(file)
    if kept is None:
        return None
    digest, code = kept[:_DIGEST], kept[_DIGEST:]
    return code if hashlib.sha256(code).digest() == digest else None


def _write(file: Path, code: bytes) -> None:
    keep(file, hashlib.sha256(code).digest() + code)
