"""Noise that NumPy, JAX and PyTorch work out alike: a counter goes in, random numbers come out, and nothing is kept.

The generator is Philox4x32 (Salmon, Moraes, Dror and Shaw, 2011, "Parallel random numbers: as easy as 1, 2, 3",
SC '11, https://doi.org/10.1145/2063384.2063405): a bijection of 128-bit counters, chosen by a 64-bit key. It needs
products, shifts and exclusive ors of 32-bit words and no more, so a step of training can draw on its own device what it
needs, from the seed, the step and the site alone. This file is the reference; `ae_jax.noise` and `ae_torch.noise`
give the same numbers.

One counter gives four words, a *block*. Its four words are

    (block within the sample's draw, row of the batch, step, purpose)

with purpose 0 for `draw` and 1 for `permutation`. So a row's numbers depend on the key, the step, the row and the
position alone: a batch may be cut into parts, or divided over devices, without changing a number.

A draw of ``size`` numbers takes the ``n = ⌈size / 4⌉`` blocks from 0 on. Words lie by their place in the block: word j
of block b is number ``j·n + b``, and what lies behind ``size`` is cut off, so that no
twin has to interleave anything.
"""

import hashlib

import numpy as np
from jaxtyping import Float64, Int64, UInt64

from ae_core.spec.component import NoiseSite

Key = tuple[int, int]
"""Two words of 32 bits, which choose one of 2⁶⁴ bijections."""

ROUNDS = 10
"""Rounds of the bijection. By the paper, 7 are the fewest with which Philox4x32 passes all of TestU01's BigCrush; 10,
the default of its authors' library Random123, leave a margin for safety. Even with 10, noise for every pixel costs less
than a quarter of a step of a dense autoencoder in either twin, so nothing asks for fewer."""

MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
"""What the first and the third word are multiplied by: PHILOX_M4x32_0 and _1 of the authors' library Random123."""

WEYL = (0x9E3779B9, 0xBB67AE85)
"""What is added to the words of the key after each round, modulo 2³²: the golden ratio and √3 − 1, of Random123."""

WORD = 0xFFFFFFFF
"""All bits of a word."""

DRAW, PERMUTATION = 0, 1
"""The last word of the counter, by purpose."""


def key(seed: int, site: str) -> Key:
    """Return the key of a seed and a site's name: the first 8 bytes of a hash of both, as little-endian words."""
    digest = hashlib.sha256(repr((int(seed), "noise", site)).encode()).digest()  # NumPy's integers print otherwise
    return int.from_bytes(digest[:4], "little"), int.from_bytes(digest[4:8], "little")


def round_keys(key: Key, rounds: int) -> list[Key]:
    """Return the key of each round."""
    return [((key[0] + i * WEYL[0]) & WORD, (key[1] + i * WEYL[1]) & WORD) for i in range(rounds)]


def philox(
    counter: tuple[UInt64[np.ndarray, "..."], ...], key: Key, rounds: int = ROUNDS
) -> tuple[UInt64[np.ndarray, "..."], ...]:
    """Return the four words that Philox4x32 makes of the four words of a counter, which broadcast against each other.

    With ``hi`` and ``lo`` the upper and lower words of a product of two words, a round is (section 3.3 of the paper)

        (c₀, c₁, c₂, c₃) ← (hi(M₁·c₂) ⊕ c₁ ⊕ k₀, lo(M₁·c₂), hi(M₀·c₀) ⊕ c₃ ⊕ k₁, lo(M₀·c₀))
    """
    c0, c1, c2, c3 = counter
    for k0, k1 in round_keys(key, rounds):
        p0, p1 = c0 * MULTIPLIERS[0], c2 * MULTIPLIERS[1]  # of two words of 32 bits: no overflow
        c0, c1, c2, c3 = (p1 >> 32) ^ c1 ^ k0, p1 & WORD, (p0 >> 32) ^ c3 ^ k1, p0 & WORD
    return c0, c1, c2, c3


def draw(
    site: NoiseSite, key: Key, step: int | Int64[np.ndarray, " K"], rows: int, first: int = 0
) -> Float64[np.ndarray, "..."]:
    """Return the noise of ``rows`` rows of a batch, from row ``first`` on: [rows, *shape].

    Several steps at once, K of them, give [K, rows, *shape]. Steps and rows are below 2³¹.

    A uniform number is ``u = (2·⌊w / 2⁹⌋ + 1) / 2²⁴`` of a word w: the middle of one of 2²³ equal intervals, which
    float32 holds exactly, and never 0 or 1. Normal numbers are made of pairs of uniform ones (Box and Muller, 1958,
    "A note on the generation of random normal deviates"): of u out of word 0 or 1 of a block and v out of word 2 or 3,

        z = √(−2·ln u)·cos(2π·v) in the place of u,  z′ = √(−2·ln u)·sin(2π·v) in the place of v.

    Since u is at least 2⁻²⁴, none is further from 0 than 5.77; one in 1.2·10⁸ would be.
    """
    steps = np.asarray(step, np.uint64)
    numbers = np.arange(site.blocks, dtype=np.uint64), np.arange(first, first + rows, dtype=np.uint64)[:, None]
    words = philox((*numbers, steps[..., None, None], np.uint64(DRAW) + np.zeros((1, 1), np.uint64)), key)
    uniform = (2 * (np.stack(words, -2) >> 9) + 1) * 2.0**-24  # [..., rows, 4, blocks]
    result = _normal(uniform) if site.distribution == "normal" else uniform
    shape = *steps.shape, rows
    return result.reshape(*shape, -1)[..., : site.size].reshape(*shape, *site.shape)


def _normal(uniform: Float64[np.ndarray, "*K B 4 N"]) -> Float64[np.ndarray, "*K B 4 N"]:
    radius, angle = np.sqrt(-2 * np.log(uniform[..., :2, :])), 2 * np.pi * uniform[..., 2:, :]
    return np.concatenate([radius * np.cos(angle), radius * np.sin(angle)], -2)


def permutation(key: Key, step: int, count: int) -> Int64[np.ndarray, " count"]:
    """Return an order of ``count`` things.

    Each is given a number of 64 bits, word 0 above word 1 of the block of its index, and they are sorted by it; of two
    equal numbers, which are as rare as one in 2⁶⁴ pairs, the lower index comes first.
    """
    index, zero = np.arange(count, dtype=np.uint64), np.zeros(1, np.uint64)
    upper, lower, *_ = philox((index, zero, zero + np.uint64(step), zero + np.uint64(PERMUTATION)), key)
    return np.argsort(upper << 32 | lower, stable=True)
