"""Penalties: further terms of the loss."""

from functools import singledispatch
from typing import Any, NamedTuple

from jaxtyping import Float
from torch import Tensor

from ae_core.spec import Penalty, missing


class Seen(NamedTuple):
    """What a penalty may look at, in one training step."""

    x: Float[Tensor, "B H W C"]
    """The clean images."""
    code: Any
    """The code, with all its fields; see `ae_torch.model.bottleneck.Code`."""
    output: Float[Tensor, "B H W C"]
    """Logits or means of the reconstruction."""


@singledispatch
def penalty(penalty: Penalty, seen: Seen) -> Float[Tensor, "..."]:
    """Return the penalty of each sample, [B], or one number where it couples them; without its weight.

    Raises:
        MissingError: nothing is registered for this kind.
    """
    raise missing("ae_torch", "penalty", penalty)
