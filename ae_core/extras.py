"""The optional halves: each twin needs its own framework, and neither needs the other's."""

import sys
from importlib.util import find_spec

_PACKAGES = {"jax": ("jax", "flax", "optax"), "torch": ("torch",)}


def missing_extra(twin: str) -> str | None:
    """Say in one line what to install when a twin's framework is not there."""
    missing = [package for package in _PACKAGES[twin] if find_spec(package) is None]
    if not missing:
        return None
    return f"{', '.join(missing)} not installed; right is: pip install 'twin-autoencoders[{twin}]'"


def require(twin: str) -> None:
    """Refuse to import a twin whose framework is not there.

    Raises:
        ModuleNotFoundError: says what to install. Under ``python -m ae_jax`` there is that one line and no traceback.
    """
    missing = missing_extra(twin)
    if missing is None:
        return
    if sys.argv[:1] == ["-m"]:  # Python imports the package to find its __main__
        print(f"ae-{twin}: {missing}", file=sys.stderr)
        sys.exit(2)
    raise ModuleNotFoundError(missing)
