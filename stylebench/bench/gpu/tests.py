"""Files of tests side by side: ``python -m stylebench.bench.gpu.tests FILE ...``.

A lent machine has pytest but not its plugin for processes, and the compiler of kernels has one core
a process. Warnings are not errors: another version of a library has others. What compiles for GPUs
that are not there is left out.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from stylebench.bench.suites.child_process import end_with_parent

_AT_ONCE = 12
_PASSED, _NOTHING_CHOSEN = 0, 5  # pytest's exit codes
OPTIONS = ("-q", "-p", "no:cacheprovider", "-W", "default", "-k", "not aot")


def main(files: Sequence[str]) -> int:
    """Print each file's output when it is done; return 1 where a test failed."""
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        codes = list(pool.map(_tested, files))
    return int(any(code not in (_PASSED, _NOTHING_CHOSEN) for code in codes))


def _tested(file: str) -> int:
    done = subprocess.run(
        [sys.executable, "-m", "pytest", file, *OPTIONS],
        stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace",
        preexec_fn=end_with_parent,
    )  # fmt: skip
    sys.stdout.write(f"{file}:\n{done.stdout}{done.stderr}\n")
    sys.stdout.flush()
    return done.returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
