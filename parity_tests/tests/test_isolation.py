"""No package imports the framework that is not its own; each is imported in a fresh interpreter."""

import subprocess
import sys

import pytest

FORBIDDEN = {
    "ae_core": ("jax", "flax", "optax", "torch"),
    "ae_jax": ("torch",),
    "ae_torch": ("jax", "flax", "optax"),
}
CODE = """
import importlib, pkgutil, sys
package = importlib.import_module({package!r})
for module in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
    if ".tests" not in module.name:
        importlib.import_module(module.name)
{extra}
print(" ".join(name for name in {forbidden!r} if name in sys.modules))
"""


def imported(package, extra=""):
    code = CODE.format(package=package, forbidden=FORBIDDEN[package], extra=extra)
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True)
    return done.stdout.split()


@pytest.mark.parametrize("package", FORBIDDEN)
def test_package_imports_no_foreign_framework(package):
    assert imported(package) == []


@pytest.mark.parametrize("package", FORBIDDEN)
def test_this_test_can_fail(package):
    assert imported(package, f"import {FORBIDDEN[package][0]}") != []


def test_ae_core_alone_imports_no_numpy():
    """A spec is data, and ``--help`` is not to wait for arrays."""
    code = "import sys, ae_core; print('numpy' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False"]
