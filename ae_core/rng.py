"""Random numbers that depend on nothing but where they are used.

Every draw of the project comes from a Philox stream (Salmon et al., 2011, "Parallel random numbers: as easy as
1, 2, 3") whose 128-bit key is a hash of the seed and of the *site*: what is drawn, and at which epoch or step. No
stream is ever advanced from one use to the next, so any batch or noise can be drawn again on its own, in any order,
by either twin, and after a resume.
"""

import hashlib

import numpy as np
from jaxtyping import Float64


def generator(seed: int, *site: str | int) -> np.random.Generator:
    """Return the generator of one site, for example ``generator(seed, "noise", step)``.

    Equal arguments give equal streams; two that differ in any part give independent ones (``1`` and ``"1"`` differ).
    """
    parts = [part if isinstance(part, str) else int(part) for part in (seed, *site)]  # NumPy's integers print otherwise
    key = hashlib.sha256(repr(tuple(parts)).encode()).digest()[:16]
    return np.random.Generator(np.random.Philox(key=int.from_bytes(key, "little")))


def normal(shape: tuple[int, ...], seed: int, *site: str | int) -> Float64[np.ndarray, "..."]:
    """Draw standard normal noise of ``shape`` for one site, in float64; a twin narrows it to its own precision."""
    return generator(seed, *site).standard_normal(shape)
