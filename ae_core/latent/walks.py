"""Ways from one code to another, and along each latent number."""

import numpy as np
from jaxtyping import Float, Float64


def straight(a: Float[np.ndarray, " L"], b: Float[np.ndarray, " L"], steps: int) -> Float64[np.ndarray, "T L"]:
    """Return ``steps`` codes evenly spaced on the line from a to b, both included: (1 − t)·a + t·b."""
    t = _times(steps)
    return (1 - t) * a + t * b


def spherical(a: Float[np.ndarray, " L"], b: Float[np.ndarray, " L"], steps: int) -> Float64[np.ndarray, "T L"]:
    """Return ``steps`` codes from a to b, both included, that turn about the origin at an even pace.

    (sin((1 − t)·Ω)·a + sin(t·Ω)·b) / sin Ω, where Ω is the angle between a and b: the way stays as far from the
    origin as draws from a wide N(0, I) are, where a line would pass through its empty middle. Where a and b point the
    same way, or one is the origin, it is the line.

    Source: Shoemake (1985); for latent spaces White (2016), "Sampling generative networks".

    Raises:
        ValueError: a and b point in opposite directions, so that no turn is the shortest.
    """
    a, b = a.astype(np.float64), b.astype(np.float64)
    lengths = np.linalg.norm(a), np.linalg.norm(b)
    if min(lengths) == 0:
        return straight(a, b, steps)
    u, v = a / lengths[0], b / lengths[1]
    angle = 2 * np.arctan2(np.linalg.norm(u - v), np.linalg.norm(u + v))  # exact where arccos is not: near 0 and π
    if angle == 0:
        return straight(a, b, steps)
    # half of all digits would be lost in the division, and the direction be an accident
    if np.pi - angle < np.sqrt(np.finfo(np.float64).eps):
        raise ValueError("the two codes point in opposite directions; expected a straight walk, or another pair")
    t = _times(steps)
    return (np.sin((1 - t) * angle) * a + np.sin(t * angle) * b) / np.sin(angle)


def traversal(
    code: Float[np.ndarray, " L"], values: Float[np.ndarray, "D T"], dimensions: list[int]
) -> Float64[np.ndarray, "D T L"]:
    """Return the code with one of its numbers replaced: row d takes ``values[d]`` in dimension ``dimensions[d]``."""
    codes = np.broadcast_to(code.astype(np.float64), (*values.shape, len(code))).copy()
    for row, dimension in enumerate(dimensions):
        codes[row, :, dimension] = values[row]
    return codes


def _times(steps: int) -> Float64[np.ndarray, "T 1"]:
    if steps < 2:
        raise ValueError(f"a walk has at least its two ends; given {steps} steps")
    return np.linspace(0, 1, steps)[:, None]
