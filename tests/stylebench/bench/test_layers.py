"""The floors of ``stylebench.bench``: which may import which, and names without torch."""

import ast
from pathlib import Path

import stylebench.bench

BENCH = Path(stylebench.bench.__file__).parent
#: Folder -> folders that it may import from, beside the rooms below ``bench``. All of ``compare``
#: but ``worktree``, which runs a suite, stands on records and the statistics of their samples.
BELOW = {
    "records": set(),
    "machine": {"records"},
    "measure": {"records", "machine"},
    "workloads": {"records", "machine", "measure"},
    "suites": {"records", "machine", "measure", "workloads"},
    "compare": {"records", "measure"},
    "report": {"records"},
    "gpu": {"records", "machine", "suites"},
    "model": {"records"},
}
EXCEPTIONS = {"compare/worktree.py": {"suites"}}


def imported(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            yield node.module
            yield from (f"{node.module}.{name.name}" for name in node.names)
        elif isinstance(node, ast.Import):
            yield from (name.name for name in node.names)


def violations(folder, allowed):
    for path in sorted((BENCH / folder).rglob("*.py")):
        own = allowed | {folder} | EXCEPTIONS.get(path.relative_to(BENCH).as_posix(), set())
        for module in imported(path):
            room, _, rest = module.removeprefix("stylebench.").partition(".")
            if module.startswith("stylebench.cli"):
                yield f"{path}: {module}"
            if room == "bench" and rest and rest.split(".")[0] not in own:
                yield f"{path}: {module}"


def test_nothing_is_imported_upwards():
    assert {path.name for path in BENCH.iterdir() if (path / "__init__.py").exists()} == set(BELOW)
    assert [line for folder in BELOW for line in violations(folder, BELOW[folder])] == []


def test_no_module_is_part_of_a_circle():
    """Within a folder too: each module's imports are loaded before it."""
    graph = {
        f"stylebench.bench.{path.relative_to(BENCH).with_suffix('').as_posix().replace('/', '.')}":
            set(imported(path)) for path in BENCH.rglob("*.py") if path.name != "__init__.py"
    }  # fmt: skip
    while graph:
        free = {
            module for module, needed in graph.items() if not needed & (graph.keys() - {module})
        }
        assert free, f"a circle among {sorted(graph)}"
        graph = {module: needed for module, needed in graph.items() if module not in free}


def test_names_of_suites_need_no_torch(fresh_python):
    script = (
        "import sys; sys.modules |= dict.fromkeys(['torch', 'numpy', 'rich'])\n"
        "from stylebench.bench.suites import SUITES; print(*SUITES)"
    )
    assert fresh_python(script).split()[:2] == ["smoke", "parity"]
