"""The rooms of the house: a module imports only from its own room and from those below it."""

import ast
from pathlib import Path

import pytest

import stylebench

ROOMS = (
    "version",
    "signals",
    "console",
    "files",
    "image",
    "watch",
    "model",
    "engines",
    "optim",
    "transfer",
    "figures",
    "parity",
    "bench",
    "cli",
)
PACKAGE = Path(stylebench.__file__).parent
MODULES = sorted(PACKAGE.rglob("*.py"))


def imported(source, module="stylebench"):
    """Dotted names below ``module`` that a source imports, anywhere in it."""
    names = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "a relative import hides its room"
            names += [f"{node.module}.{alias.name}" for alias in node.names]
    return [name.split(".")[1] for name in names if name.startswith(f"{module}.")]


def upward(room, source):
    """Rooms above ``room`` that a source in it imports from."""
    return [name for name in imported(source) if ROOMS.index(name) > ROOMS.index(room)]


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_no_module_imports_from_a_room_above_its_own(path):
    room, *rest = path.relative_to(PACKAGE).parts
    if not rest and room in ("__init__.py", "__main__.py"):
        return  # the house's door
    assert upward(room.removesuffix(".py"), path.read_text("utf-8")) == []


def test_every_module_is_in_a_room():
    loose = {path.name for path in PACKAGE.glob("*.py")}
    assert loose == {"__init__.py", "__main__.py", "version.py", "signals.py", "console.py"}
    folders = {path.name for path in PACKAGE.iterdir() if (path / "__init__.py").exists()}
    assert folders == set(ROOMS) - {"version", "signals", "console"}


def test_an_arrow_upwards_is_seen_however_it_is_written():
    for source in (
        "from stylebench.transfer.api import stylize",
        "def f():\n    import stylebench.transfer.api",
        "if TYPE_CHECKING:\n    from stylebench import transfer",
    ):
        assert upward("engines", source) == ["transfer"]
        assert upward("cli", source) == []
