"""The house: packages import downwards alone, nothing goes in a circle, and no folder has more rooms than one scans."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ALLOWED = {
    "ae_core": {"ae_core"},
    "ae_jax": {"ae_core", "ae_jax"},
    "ae_torch": {"ae_core", "ae_torch"},
    "parity_tests": {"ae_core", "ae_jax", "ae_torch", "parity_tests"},
    "benchmarks": {"ae_core", "ae_jax", "ae_torch", "parity_tests", "benchmarks"},
}
MOST_ROOMS = 16
"""Modules and folders side by side."""


def _modules(package: str) -> dict[str, Path]:
    found = {}
    for path in sorted((ROOT / package).rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        if "tests" not in parts[:-1]:
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


MODULES = {name: path for package in ALLOWED for name, path in _modules(package).items()}


def imports_of(tree: ast.AST, known: set[str], at_the_top: bool = True) -> set[str]:
    """Return the modules among the known ones that a module imports; ``at_the_top``: when it is itself imported."""
    found: set[str] = set()
    for node in _statements(tree, at_the_top):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= {name if name in known else node.module for name in names}
    return found & known


def _statements(tree: ast.AST, at_the_top: bool) -> Iterator[ast.AST]:
    for node in ast.iter_child_nodes(tree):
        if at_the_top and isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        yield node
        yield from _statements(node, at_the_top)


def circle_in(graph: dict[str, set[str]]) -> list[str]:
    """Return the names of a circle, or nothing where there is none."""
    done: set[str] = set()

    def visit(name: str, way: list[str]) -> list[str]:
        if name in way:
            return [*way[way.index(name) :], name]
        if name in done:
            return []
        for other in sorted(graph.get(name, ())):
            if other != name and (found := visit(other, [*way, name])):
                return found
        done.add(name)
        return []

    return next((found for name in graph if (found := visit(name, []))), [])


def test_a_circle_is_seen():
    assert circle_in({"a": {"b"}, "b": {"c"}, "c": {"a"}}) == ["a", "b", "c", "a"]
    assert circle_in({"a": {"b", "c"}, "b": {"c"}, "c": set()}) == []


def test_imports_are_seen():
    source = "import a\nfrom b import c, d\nif x:\n    from e import f\ndef g():\n    import h\n"
    known = {"a", "b", "b.c", "e", "h"}
    assert imports_of(ast.parse(source), known) == {"a", "b.c", "b", "e"}
    assert imports_of(ast.parse(source), known, at_the_top=False) == {"a", "b.c", "b", "e", "h"}


def test_no_circle():
    graph = {
        name: imports_of(ast.parse(path.read_text(encoding="utf-8")), set(MODULES)) for name, path in MODULES.items()
    }
    assert sum(map(len, graph.values())) > 500
    # a package's own name stands for what it gathers; that its parts import each other through it is no circle of rooms
    graph = {name: found - {name.rpartition(".")[0]} for name, found in graph.items()}
    assert circle_in(graph) == []


@pytest.mark.parametrize("package", ALLOWED)
def test_imports_point_down(package):
    for name, path in MODULES.items():
        if name.split(".")[0] == package:
            tree = ast.parse(path.read_text(encoding="utf-8"))
            roots = {found.split(".")[0] for found in imports_of(tree, set(MODULES), at_the_top=False)}
            assert roots <= ALLOWED[package], name


def test_no_folder_has_more_rooms_than_one_can_scan():
    folders = {path.parent for path in MODULES.values()}
    crowded = {}
    for folder in folders:
        rooms = [
            entry.name
            for entry in folder.iterdir()
            if entry.name not in ("__init__.py", "__main__.py", "tests")
            and (entry.suffix == ".py" or (entry.is_dir() and any(entry.glob("*.py"))))
        ]
        if len(rooms) > MOST_ROOMS:
            crowded[folder.relative_to(ROOT).as_posix()] = sorted(rooms)
    assert crowded == {}


def test_the_twins_have_the_same_rooms():
    only = {
        "jax": {"convolution", "counts", "compiler", "cpu", "dispatch", "gradients", "plan"},
        "torch": {"mirror", "variants"},
    }
    ours, theirs = (
        {name.partition(".")[2] for name in MODULES if name.startswith(f"ae_{twin}.")} for twin in ("jax", "torch")
    )
    assert {name.rpartition(".")[2] for name in ours - theirs} == only["jax"]
    assert {name.rpartition(".")[2] for name in theirs - ours} == only["torch"]
