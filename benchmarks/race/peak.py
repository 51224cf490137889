"""The machine's peaks: the rates of matrix products and of memory, measured where the race runs."""

import time
from typing import Any

SIDE = 2_048
"""Side of the square matrices: three of them exceed every cache, and a product takes 17 GFLOP."""
BYTES = 2**28
"""Size of each array in a sum of two that is written to a third."""
REPEATS = 7
"""Timed repetitions, of which the fastest counts."""


def measure() -> dict[str, Any]:
    """Return the best rates, and the samples that they come from.

    ``gflops``: float32 products of square matrices, 2·n³ operations each, by the fastest of NumPy, PyTorch and JAX.
    ``gbytes``: c = a + b over arrays larger than any cache, three transfers a number, by the faster of NumPy and
    PyTorch.
    """
    import numpy as np

    rng = np.random.default_rng(0)
    a, b = rng.random((2, SIDE, SIDE), np.float32)
    products: dict[str, list[float]] = {"numpy": _times(lambda: a @ b)}
    x, y, z = (np.ones(BYTES // 4, np.float32) for _ in range(3))
    sums = {"numpy": _times(lambda: np.add(x, y, out=z))}
    try:
        import torch

        first, second = torch.from_numpy(a), torch.from_numpy(b)
        products["torch"] = _times(lambda: first @ second)
        left, right, out = (torch.from_numpy(array) for array in (x, y, z))
        sums["torch"] = _times(lambda: torch.add(left, right, out=out))
    except ImportError:
        pass
    try:
        import jax

        one, two = jax.numpy.asarray(a), jax.numpy.asarray(b)
        product = jax.jit(lambda p, q: jax.numpy.matmul(p, q, precision="highest"))
        products["jax"] = _times(lambda: product(one, two).block_until_ready())
    except ImportError:
        pass
    gflops = {name: 2 * SIDE**3 / min(times) / 1e9 for name, times in products.items()}
    gbytes = {name: 3 * BYTES / min(times) / 1e9 for name, times in sums.items()}
    return {
        "gflops": max(gflops.values()),
        "gbytes": max(gbytes.values()),
        "products": gflops,
        "sums": gbytes,
        "samples": {"products": products, "sums": sums},
    }


def _times(work: Any) -> list[float]:
    work()
    times = []
    for _ in range(REPEATS):
        began = time.perf_counter()
        work()
        times.append(time.perf_counter() - began)
    return times
