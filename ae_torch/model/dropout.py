"""Dropout."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ae_core.spec.backbone import kept


class Dropout(nn.Module):
    """y = x/(1 − share) where a uniform number is not below share, else 0; without noise y = x.

    Source: Srivastava et al. (2014), section 10, where what stays is made larger in training. Noise is [B, *P, C], as
    the spec has it; x is [B, C, *P], as the layers before have it.
    """

    def __init__(self, share: float) -> None:
        super().__init__()
        self.share = share

    def forward(self, x: Float[Tensor, "B ..."], noise: Float[Tensor, "B ..."] | None) -> Float[Tensor, "B ..."]:
        if noise is None:
            return x
        threshold, factor = kept(self.share)
        return torch.where(noise.movedim(-1, 1) < threshold, 0, x * factor)


def make_dropout(share: float) -> Dropout | None:
    """Return the module, None where nothing is left out."""
    return Dropout(share) if share else None
