"""Noise made on the device, in PyTorch: the same numbers as `ae_core.noise`, in integers of 64 bits, run eagerly.

PyTorch has few operations on unsigned integers, so a word of 32 bits is the lower half of a signed one of 64. What only
an exclusive or reads may hold anything in its upper half, which spares half of the masks.
"""

import math

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from ae_core.noise import DRAW, MULTIPLIERS, PERMUTATION, ROUNDS, WORD, Key, round_keys
from ae_core.spec.component import NoiseSite


def philox(
    counter: tuple[Int64[Tensor, "..."], ...], key: Key, rounds: int = ROUNDS
) -> tuple[Int64[Tensor, "..."], ...]:
    """Return the four words of `ae_core.noise.philox`, the upper halves of which are to be ignored.

    The words of the counter broadcast against each other, and rounds are worked out no larger than they are: where each
    comes along an axis of its own, the first two rounds cost next to nothing.
    """
    c0, c1, c2, c3 = counter
    # The lower half of a product is what the next round takes an exclusive or with. So one with the keys of two rounds,
    # one in either half, serves both.
    keys = [*round_keys(key, rounds), (0, 0)]
    for i in range(rounds):
        p0, p1 = c0 * MULTIPLIERS[0], c2 * MULTIPLIERS[1]
        if i % 2 == 0:
            following = keys[i + 1] if i + 1 < rounds else (0, 0)
            p1.bitwise_xor_(_signed(keys[i][0] << 32 | following[0]))
            p0.bitwise_xor_(_signed(keys[i][1] << 32 | following[1]))
        c0, c2 = _upper(p1, c1), _upper(p0, c3)
        c1, c3 = p1, p0
    return c0, c1, c2, c3


def _signed(bits: int) -> int:
    return bits - (1 << 64) if bits >> 63 else bits


def _upper(product: Int64[Tensor, "..."], other: Int64[Tensor, "..."]) -> Int64[Tensor, "..."]:
    """Return the exclusive or of a product's upper word and another word, with nothing above it."""
    upper = product >> 32
    upper = upper.bitwise_xor_(other) if upper.shape == other.shape else upper ^ other
    return upper.bitwise_and_(WORD)


def draw(
    site: NoiseSite,
    key: Key,
    step: int | Int64[Tensor, ""] | Int64[Tensor, " K"],
    rows: int,
    first: int = 0,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
) -> Float[Tensor, "..."]:
    """Return the noise of ``rows`` rows of a batch, from row ``first`` on, as `ae_core.noise.draw` does.

    Where the draw is small, most of its time is that of some eighty calls. Several steps at once share them.
    """
    steps = torch.as_tensor(step, dtype=torch.int64, device=device)
    block, row = torch.arange(site.blocks, device=device), torch.arange(first, first + rows, device=device)
    purpose = torch.full((1, 1), DRAW, device=device)
    words = philox((block[None], row[:, None], steps[..., None, None], purpose), key)
    shape = *steps.shape, rows
    uniform = torch.empty((*shape, 4, site.blocks), dtype=dtype, device=device)
    for place, word in zip(uniform.unbind(-2), words, strict=True):
        place.copy_((word >> 9).bitwise_and_(WORD >> 9))
    uniform.mul_(2.0**-23).add_(2.0**-24)  # of 23 bits, so that every step is exact
    result = _normal(uniform) if site.distribution == "normal" else uniform
    return result.reshape(*shape, -1)[..., : site.size].reshape(*shape, *site.shape)


def _normal(uniform: Float[Tensor, "*K B 4 N"]) -> Float[Tensor, "*K B 4 N"]:
    radius = uniform[..., :2, :].log().mul_(-2).sqrt_()
    angle = uniform[..., 2:, :] * (2 * math.pi)
    torch.mul(radius, angle.cos(), out=uniform[..., :2, :])
    torch.mul(radius, angle.sin_(), out=uniform[..., 2:, :])
    return uniform


def permutation(key: Key, step: int, count: int, device: torch.device | str = "cpu") -> Int64[Tensor, " count"]:
    """Return the order of ``count`` things of `ae_core.noise.permutation`."""
    index, zero = torch.arange(count, device=device), torch.zeros(1, dtype=torch.int64, device=device)
    upper, lower, *_ = philox((index, zero, zero + step, zero + PERMUTATION), key)
    # the highest bit is a sign, so the lower half of the numbers is moved below 0
    return torch.argsort((upper - 2**31) << 32 | lower & WORD, stable=True)
