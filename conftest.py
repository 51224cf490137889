"""Every test runs with the shapes and types of all annotations checked, by jaxtyping and beartype."""

import os
from pathlib import Path

if "PYTEST_XDIST_WORKER" in os.environ:
    # as many processes as cores: threads of PyTorch's that wait for each other would take the cores from one another
    os.environ.setdefault("OMP_NUM_THREADS", "1")

from jaxtyping import install_import_hook

import parity_tests.typecheck  # noqa: F401 (the hook looks it up by name)

# the tests themselves are left alone: a fixture that is wrapped is no generator any more
PARTS = [
    f"{package}.{part.stem}"
    for package in ("ae_core", "ae_jax", "ae_torch", "parity_tests", "benchmarks")
    for part in (Path(__file__).parent / package).iterdir()
    if (part.suffix == ".py" or (part / "__init__.py").exists()) and part.stem not in ("__init__", "__main__", "tests")
]
install_import_hook(PARTS, "parity_tests.typecheck.checked")
