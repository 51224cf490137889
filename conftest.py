"""Every test runs with the shapes and types of all annotations checked, by jaxtyping and beartype.

And how tests are dealt out to processes, and what these share.
"""

import atexit
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

if "PYTEST_XDIST_WORKER" in os.environ:
    # as many processes as cores: threads of PyTorch's that wait for each other would take the cores from one another
    os.environ.setdefault("OMP_NUM_THREADS", "1")
if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
    # What JAX compiles is kept for all processes of this run, the tests' own children too, and for no longer. It is
    # found again by the program itself, so that a test that changes a program never meets the old one.
    _compiled = tempfile.mkdtemp(prefix="twin-autoencoders-")
    atexit.register(shutil.rmtree, _compiled, ignore_errors=True)
    os.environ["JAX_COMPILATION_CACHE_DIR"] = _compiled
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.1")

import jaxtyping
from jaxtyping import install_import_hook
from xdist.scheduler import LoadScopeScheduling

import parity_tests.typecheck  # noqa: F401 (the hook looks it up by name)

# the tests themselves are left alone: a fixture that is wrapped is no generator any more
PARTS = [
    f"{package}.{part.stem}"
    for package in ("ae_core", "ae_jax", "ae_torch", "parity_tests", "benchmarks")
    for part in (Path(__file__).parent / package).iterdir()
    if (part.suffix == ".py" or (part / "__init__.py").exists()) and part.stem not in ("__init__", "__main__", "tests")
]
install_import_hook(PARTS, "parity_tests.typecheck.checked")

LONG = (
    "benchmarks/tests/test_wardrobe.py",
    "benchmarks/tests/test_readme.py",
    "benchmarks/tests/test_members.py",
    "ae_jax/tests/test_mesh.py",
    "ae_torch/tests/test_variants.py",
    "benchmarks/tests/test_race.py",
    "benchmarks/tests/test_main_job.py",
)
"""Files whose tests share what takes minutes to make; they come first, so that none is left over at the end."""
SPREAD = tuple(
    f"parity_tests/tests/test_{name}.py"
    for name in ("trajectory", "drawn", "identity", "mutation", "drift", "oracle", "snapshot", "order")
)
"""Files whose tests share nothing but what they have in common for one case: they come last, dealt out by cases."""


for _name in (*LONG, *SPREAD):
    if not (Path(__file__).parent / _name).is_file():
        raise pytest.UsageError(f"conftest.py: no file {_name}; expected the place of each file that is named there")


@pytest.fixture
def unchecked() -> Iterator[None]:
    """Leave annotations unchecked, for what trains long: checking takes a third of the time of small steps, and other
    tests take the same ways."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


@pytest.fixture
def unoptimised() -> None:
    """Have JAX compile as `parity_tests.quickly` says; not for float32's rounding, nor for what takes long to run."""


_quick = False


@pytest.fixture(autouse=True)
def _as_it_is_compiled(request: pytest.FixtureRequest) -> None:
    """Compile as the test wants it, and let go of programs that were compiled in the other way."""
    global _quick
    wanted = "unoptimised" in request.fixturenames
    if wanted == _quick:
        return
    import jax

    from ae_jax.execution import compiler
    from parity_tests import quickly
    from parity_tests.faults.planting import forget

    _quick = wanted
    # what JAX compiles for itself, outside the programs of this project
    jax.config.update("jax_disable_most_optimizations", wanted)
    for name, value in quickly.options().items():
        if wanted:
            compiler._ON_A_CPU[name] = value
        else:
            del compiler._ON_A_CPU[name]
    forget()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put tests into the order in which they are dealt out."""
    rank = {name: place for place, name in enumerate((*LONG, "others", *SPREAD))}
    items.sort(key=lambda item: rank.get(item.nodeid.partition("::")[0], rank["others"]))


class _Dealing(LoadScopeScheduling):
    """Keeps the tests of a file in one process; of a file in `SPREAD` those of one case."""

    def _split_scope(self, nodeid: str) -> str:
        file, _, test = nodeid.partition("::")
        if file not in SPREAD:
            return file
        function, bracket, case = test.partition("[")
        return f"{file}[{case}" if bracket else f"{file}::{function}"


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LoadScopeScheduling | None:
    """Deal tests out so, unless --dist asks for another way."""
    return _Dealing(config, log) if config.getoption("dist") == "loadscope" else None
