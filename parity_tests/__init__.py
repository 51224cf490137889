"""Proves the twins equal, and compares any JAX function with any PyTorch module."""

from typing import Any


def __getattr__(name: str) -> Any:
    """Load the comparison of pairs, and both frameworks with it, where it is asked for."""
    if name == "compare_pair":
        from parity_tests.pair.compare import compare_pair

        return compare_pair
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
