"""The optional parts: each twin needs its own framework, and not the other's; estimators need scikit-learn."""

import sys
from importlib.util import find_spec

_PACKAGES = {"jax": ("jax", "flax", "optax"), "torch": ("torch",), "sklearn": ("sklearn",)}
_NAMES = {"sklearn": "scikit-learn"}
"""Of packages that are installed under another name than they are imported by."""


def missing_extra(extra: str) -> str | None:
    """Say in one line what to install when the packages of an extra, such as a twin's framework, are not there."""
    missing = [_NAMES.get(package, package) for package in _PACKAGES[extra] if find_spec(package) is None]
    if not missing:
        return None
    return f"{', '.join(missing)} not installed; expected: pip install 'twin-autoencoders[{extra}]'"


def require(extra: str) -> None:
    """Refuse to import a twin whose framework is not there, or the estimators without scikit-learn.

    Raises:
        ModuleNotFoundError: says what to install. Under ``python -m ae_jax`` there is that one line and no traceback.
    """
    missing = missing_extra(extra)
    if missing is None:
        return
    if sys.argv[:1] == ["-m"]:  # Python imports the package to find its __main__
        print(f"ae-{extra}: {missing}", file=sys.stderr)
        sys.exit(2)
    raise ModuleNotFoundError(missing)
