"""Packages from outside the project: known for a while, and forgotten again."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from unittest.mock import patch

from jaxtyping import install_import_hook

from ae_core.spec import component
from ae_core.spec import presets as known_presets
from ae_core.spec.plugins import load_plugins

TWINS = ("jax", "torch")
ATTENTION = Path(__file__).parents[2] / "examples" / "attention" / "twin_attention"
PARTS = Path(__file__).parent / "outside_parts"


@contextmanager
def loaded(folder: Path) -> Iterator[ModuleType]:
    """Import a package with both halves, its annotations checked, as --plugin does; afterwards nothing knows it."""
    families = {name: dict(known) for name, known in component._FAMILIES.items()}
    presets, path, modules = dict(known_presets.PRESETS), list(sys.path), set(sys.modules)
    with patch.dict(os.environ), install_import_hook(folder.name, "parity_tests.typecheck.checked"):
        try:
            for twin in TWINS:
                load_plugins([str(folder)], twin)
            yield sys.modules[folder.name]
        finally:
            sys.path[:] = path
            for name in sys.modules.keys() - modules:
                if name.partition(".")[0] == folder.name:
                    del sys.modules[name]
            for name, known in families.items():
                component._FAMILIES[name].clear()
                component._FAMILIES[name].update(known)
            known_presets._PRESETS.clear()
            known_presets._PRESETS.update(presets)


def command(module: str, *argv: object) -> subprocess.CompletedProcess[str]:
    """Run ``python -m module`` in a process that knows no plugin but those that it is told of."""
    known = {name: value for name, value in os.environ.items() if name != "AE_PLUGINS"}
    arguments = [sys.executable, "-m", module, *map(str, argv)]
    return subprocess.run(arguments, capture_output=True, text=True, timeout=600, env=known)
