"""Penalties: further terms of the loss."""

import math
from collections.abc import Callable
from functools import singledispatch
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from ae_core.spec import Penalty, missing
from ae_core.spec.penalty import L1, Contractive, SparseKL


class Seen(NamedTuple):
    """What a penalty may look at, in one training step."""

    x: Float[Tensor, "B H W C"]
    """The clean images."""
    code: Any
    """The code, with all its fields; see `ae_torch.model.bottleneck.Code`."""
    output: Float[Tensor, "B H W C"]
    """Logits or means of the reconstruction."""
    encode: Callable[..., Any]
    """From images to a code with all its fields, without noise; for a penalty that says that it needs the encoder."""


@singledispatch
def penalty(penalty: Penalty, seen: Seen) -> Float[Tensor, "..."]:
    """Return the penalty of each sample, [B], or one number where it couples them; without its weight.

    Raises:
        MissingError: nothing is registered for this kind.
    """
    raise missing("ae_torch", "penalty", penalty)


@penalty.register
def _l1(penalty: L1, seen: Seen) -> Float[Tensor, " B"]:
    z = seen.code.z.flatten(1)
    return (z * torch.sign(z.detach())).sum(1)


@penalty.register
def _sparse_kl(penalty: SparseKL, seen: Seen) -> Float[Tensor, ""]:
    def log_mean(logs: Float[Tensor, "B L"]) -> Float[Tensor, " L"]:
        """Return the logarithm of a mean from logarithms, which is finite where the mean itself would round to 0."""
        return torch.logsumexp(logs, 0) - math.log(len(logs))

    rate, logits = penalty.rate, seen.code.logits
    on, off = log_mean(F.logsigmoid(logits)), log_mean(F.logsigmoid(-logits))
    return (rate * (math.log(rate) - on) + (1 - rate) * (math.log1p(-rate) - off)).sum()


@penalty.register
def _contractive(penalty: Contractive, seen: Seen) -> Float[Tensor, " B"]:
    z, pull = torch.func.vjp(lambda x: seen.encode(x).z.flatten(1), seen.x)  # type: ignore[misc]  # no third here
    # images do not depend on each other: going back from one latent dimension gives a row of each one's Jacobian
    units = torch.eye(z.shape[1], dtype=z.dtype, device=z.device)[:, None].expand(-1, *z.shape)
    (rows,) = torch.func.vmap(pull)(units)
    return (rows**2).sum((0, 2, 3, 4))
