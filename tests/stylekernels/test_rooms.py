"""The imports of `stylekernels`: runtime below ops below model and tuning, and no circle."""

import ast
from graphlib import TopologicalSorter
from pathlib import Path

import stylekernels

ROOT = Path(stylekernels.__file__).parent
ORDER = ("native", "runtime", "ops", "model", "tuning")


def imports():
    """Module -> modules of the package that it imports, at its top or in a function."""
    modules = {}
    for path in ROOT.rglob("*.py"):
        name = ".".join(path.relative_to(ROOT.parent).with_suffix("").parts)
        modules[name.removesuffix(".__init__")] = ast.parse(path.read_text("utf-8"))
    graph = {}
    for name, tree in modules.items():
        graph[name] = set()
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom):
                members = {f"{node.module}.{alias.name}" for alias in node.names} & modules.keys()
                graph[name] |= members or {node.module} & modules.keys()
    return graph


def room(module):
    return module.split(".")[1]


def test_rooms_import_only_rooms_below_them():
    inside = {name: deps for name, deps in imports().items() if name.count(".") > 1}
    assert {room(name) for name in inside} == set(ORDER)
    upward = {
        (name, dep)
        for name, deps in inside.items()
        for dep in deps
        if ORDER.index(room(dep)) > ORDER.index(room(name))
    }
    assert upward == set()


def test_no_module_imports_itself_by_way_of_others():
    assert list(TopologicalSorter(imports()).static_order())
