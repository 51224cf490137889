"""The twins mirror each other: same files, same public names in the same order, same constructor fields."""

import ast
from pathlib import Path

import pytest

import ae_jax
import ae_torch

JAX, TORCH = Path(ae_jax.__file__).parent, Path(ae_torch.__file__).parent
ONLY_JAX = {"model/convolution.py"}
"""Files for what only one side can or must do, beside those of ``execution``."""
FRAMEWORK = {"setup", "forward", "compiled"}
"""Methods that a framework prescribes, or that have something to show in one alone."""
OWN = {"Network", "network", "apply", "make_direction", "scale_by_adam", "turning_ends", "device_of_training"}
"""Names that one side needs: a Linen module within pure functions, the parts of an Optax chain; images that are turned
for the sake of PyTorch's padding, and the device, which JAX finds by itself."""
HANDED = {"state", "mask", "plain_convolutions"}
"""Fields for what pure functions are handed, or give back, where PyTorch's modules keep it or need it not."""


def files(package):
    found = {path.relative_to(package).as_posix() for path in package.rglob("*.py")}
    return {name for name in found if not name.startswith(("tests/", "execution/"))}


def public(tree):
    named = [node for node in tree.body if isinstance(node, ast.ClassDef | ast.FunctionDef)]
    return [node for node in named if not node.name.startswith("_") and node.name not in OWN]


def surface(path):
    """Names of public functions and classes in order, with the public methods of each class."""
    return [(node.name, [m.name for m in public(node) if m.name not in FRAMEWORK]) for node in public(parse(path))]


def parse(path):
    return ast.parse(path.read_text(encoding="utf-8"))


def fields(node):
    """Constructor fields and defaults: of __init__ where there is one, else the annotated names of the class."""
    for item in node.body:
        if isinstance(item, ast.FunctionDef) and item.name == "__init__":
            names = [arg.arg for arg in item.args.args[1:]]
            defaults = [ast.unparse(value) for value in item.args.defaults]
            return list(zip(names, [None] * (len(names) - len(defaults)) + defaults, strict=True))
    annotated = [item for item in node.body if isinstance(item, ast.AnnAssign)]
    found = [(ast.unparse(item.target), ast.unparse(item.value) if item.value else None) for item in annotated]
    return [(name, default) for name, default in found if name not in HANDED]


def test_same_files():
    assert files(JAX) - ONLY_JAX == files(TORCH)


@pytest.mark.parametrize("name", sorted(files(TORCH)))
def test_same_public_names_in_the_same_order(name):
    ours, theirs = surface(JAX / name), surface(TORCH / name)
    assert [(n.replace("Jax", ""), m) for n, m in ours] == [(n.replace("Torch", ""), m) for n, m in theirs]


def test_same_names_at_the_door():
    assert [n for n in vars(ae_jax) if n in public_names(JAX)] == [
        n for n in vars(ae_torch) if n in public_names(TORCH)
    ]
    assert public_names(JAX) == public_names(TORCH)
    assert len(public_names(JAX)) >= 10


def public_names(package):
    imports = [node for node in parse(package / "__init__.py").body if isinstance(node, ast.ImportFrom)]
    return [alias.asname for node in imports for alias in node.names if alias.asname]


@pytest.mark.parametrize("name", sorted(n for n in files(TORCH) if n.startswith("model/")))
def test_same_constructor_fields(name):
    ours, theirs = ([n for n in public(parse(p / name)) if isinstance(n, ast.ClassDef)] for p in (JAX, TORCH))
    assert [(node.name, fields(node)) for node in ours] == [(node.name, fields(node)) for node in theirs]


def test_this_test_can_fail(tmp_path):
    source = (TORCH / "model/dense.py").read_text(encoding="utf-8")
    renamed, reordered = tmp_path / "renamed.py", tmp_path / "reordered.py"
    renamed.write_text(source.replace("in_features: int", "inputs: int"), encoding="utf-8")
    first, second = (source[source.index(f"class Dense{part}") :].split("\n\n\n")[0] for part in ("Encoder", "Decoder"))
    reordered.write_text(source.replace(first, "$").replace(second, first).replace("$", second), encoding="utf-8")
    assert surface(reordered) != surface(TORCH / "model/dense.py")
    assert [fields(n) for n in public(parse(renamed))] != [fields(n) for n in public(parse(TORCH / "model/dense.py"))]
