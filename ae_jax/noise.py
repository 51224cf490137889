"""Noise made on the device, in JAX: the same numbers as `ae_core.noise`, in words of 32 bits, inside any program."""

import math

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Int, Int32, UInt32

from ae_core.noise import DRAW, MULTIPLIERS, PERMUTATION, ROUNDS, WEYL
from ae_core.spec import Precision
from ae_core.spec.component import NoiseSite

Number = int | Int[Array, ""] | UInt32[Array, ""]
"""A number that is known while a program is traced, or only when it runs."""

Key = tuple[Number, Number] | UInt32[Array, "2"]
"""See `ae_core.noise.Key`."""


def philox(
    counter: tuple[UInt32[Array, "..."], ...], key: Key, rounds: int = ROUNDS
) -> tuple[UInt32[Array, "..."], ...]:
    """Return the four words of `ae_core.noise.philox`; the words of the counter broadcast against each other."""
    c0, c1, c2, c3 = counter
    k0, k1 = _word(key[0]), _word(key[1])
    (m0, m1), (w0, w1) = np.array(MULTIPLIERS, np.uint32), np.array(WEYL, np.uint32)
    for _ in range(rounds):
        c0, c1, c2, c3 = _upper(c2, m1) ^ c1 ^ k0, c2 * m1, _upper(c0, m0) ^ c3 ^ k1, c0 * m0
        k0, k1 = k0 + w0, k1 + w1
    return c0, c1, c2, c3


def _word(number: Number | Int[Array, " K"] | UInt32[Array, " K"]) -> UInt32[Array, "..."]:
    return jnp.asarray(number, jnp.uint32)


def _upper(word: UInt32[Array, "..."], multiplier: np.uint32) -> UInt32[Array, "..."]:
    """Return the upper word of a product."""
    # XLA has an operation for it that JAX up to 0.10.0 does not offer and that shard_map does not lower
    if hasattr(lax, "mulhi") and not jax.sharding.get_abstract_mesh().manual_axes:
        return lax.mulhi(word, multiplier)
    # products of halves are exact
    low, high = multiplier & 0xFFFF, multiplier >> 16
    middle = (word & 0xFFFF) * high + ((word & 0xFFFF) * low >> 16)
    return (word >> 16) * high + (middle >> 16) + ((word >> 16) * low + (middle & 0xFFFF) >> 16)


def draw(
    site: NoiseSite,
    key: Key,
    step: Number | Int[Array, " K"] | UInt32[Array, " K"],
    rows: int,
    first: Number = 0,
    dtype: Precision = "float32",
) -> Float[Array, "..."]:
    """Return the noise of ``rows`` rows of a batch, from row ``first`` on, as `ae_core.noise.draw` does.

    Site, ``rows`` and ``dtype`` are fixed when a program is compiled; key, ``step`` and ``first`` may be its arguments.
    """
    steps = _word(step)
    block, row = jnp.arange(site.blocks, dtype=jnp.uint32), _word(first) + jnp.arange(rows, dtype=jnp.uint32)
    purpose = jnp.full((1, 1), DRAW, jnp.uint32)
    words = philox((block[None], row[:, None], steps[..., None, None], purpose), key)
    numbers = _uniform(words, dtype)
    numbers = _normal(numbers) if site.distribution == "normal" else numbers
    result = jnp.concatenate(numbers, -1)  # stacked and reshaped, they would take twice as long
    return result[..., : site.size].reshape(*steps.shape, rows, *site.shape)


def _uniform(words: tuple[UInt32[Array, "..."], ...], dtype: Precision) -> tuple[Float[Array, "..."], ...]:
    # of 23 bits, so that every step is exact; signed integers are those that any processor converts many at once
    return tuple((word >> 9).astype(jnp.int32).astype(dtype) * 2.0**-23 + 2.0**-24 for word in words)


def _normal(uniform: tuple[Float[Array, "..."], ...]) -> tuple[Float[Array, "..."], ...]:
    radius = [jnp.sqrt(-2 * jnp.log(u)) for u in uniform[:2]]
    turned = [_cosine_and_sine(v) for v in uniform[2:]]
    return tuple(r * turn[i] for i in range(2) for r, turn in zip(radius, turned, strict=True))


def _cosine_and_sine(turns: Float[Array, "..."]) -> tuple[Float[Array, "..."], Float[Array, "..."]]:
    """Return cos(2π·v) and sin(2π·v) of v between 0 and 1.

    On a CPU, XLA calls the C library for each cosine and sine, which costs several times all the rest of a draw. Here
    v is taken to within an eighth of a turn of the nearest quarter, exactly, and Taylor's series does the rest; the
    first term that is left out, at π/4, is below the rounding of either precision.
    """
    quarter = jnp.floor(4 * turns + 0.5)
    x = (turns - quarter / 4) * (2 * math.pi)
    terms = 9 if turns.dtype == jnp.float64 else 6
    cosine, sine = _series(x, range(0, 2 * terms, 2)), x * _series(x, range(1, 2 * terms, 2))
    quarter = quarter.astype(jnp.int32)
    odd = quarter % 2 == 1
    cosine, sine = jnp.where(odd, sine, cosine), jnp.where(odd, cosine, sine)
    return jnp.where((quarter + 1) % 4 >= 2, -cosine, cosine), jnp.where(quarter % 4 >= 2, -sine, sine)


def _series(x: Float[Array, "..."], powers: range) -> Float[Array, "..."]:
    """Return Σ (−1)ⁱ·x²ⁱ / pᵢ! over the powers, by Horner's rule."""
    square, result = x * x, jnp.zeros_like(x)
    for i, power in reversed(list(enumerate(powers))):
        result = result * square + (-1) ** i / math.factorial(power)
    return result


def permutation(key: Key, step: Number, count: int) -> Int32[Array, " count"]:
    """Return the order of ``count`` things of `ae_core.noise.permutation`; ``count`` is fixed."""
    index, zero = jnp.arange(count, dtype=jnp.uint32), jnp.zeros(1, jnp.uint32)
    upper, lower, *_ = philox((index, zero, zero + _word(step), zero + np.uint32(PERMUTATION)), key)
    return lax.sort((upper, lower, index.astype(jnp.int32)), num_keys=3)[2]
