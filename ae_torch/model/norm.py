"""Normalisations, between a layer and its activation. Images are [B, C, H, W] in here, in channels_last memory."""

from functools import singledispatch

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ae_core import spec as specs
from ae_core.spec import missing


@singledispatch
def make_norm(norm: specs.Norm, features: int) -> nn.Module:
    """Return the module of a normalisation of ``features`` channels: ``module(x) -> x``, channels in axis 1.

    Raises:
        MissingError: none is registered for this kind.
    """
    raise missing("ae_torch", "make_norm", norm)


class BatchNorm(nn.modules.batchnorm._BatchNorm):
    """Batch normalisation; the running variance is the unbiased one. Source: Ioffe & Szegedy (2015), algorithm 1."""

    def __init__(self, features: int, eps: float, momentum: float) -> None:
        super().__init__(features, eps, momentum)

    def _check_input_dim(self, input: Tensor) -> None:
        """Take vectors and images alike."""


class GroupNorm(nn.GroupNorm):
    """Group normalisation over positions and the channels of a group. Source: Wu & He (2018), eq. 1-6.

    Works in contiguous memory: on CPU, PyTorch's kernel for channels_last takes the variance as E[x²] − μ², which loses
    all digits over a group that is nearly even, such as the ground behind a can.
    """

    def __init__(self, features: int, groups: int, eps: float) -> None:
        super().__init__(groups, features, eps)

    def forward(self, x: Float[Tensor, "B C *P"]) -> Float[Tensor, "B C *P"]:
        y = super().forward(x.contiguous())
        return y.contiguous(memory_format=torch.channels_last) if x.ndim == 4 else y


class LayerNorm(nn.LayerNorm):
    """Layer normalisation over the channels, at each position by itself. Source: Ba et al. (2016), eq. 4."""

    def __init__(self, features: int, eps: float) -> None:
        super().__init__(features, eps)

    def forward(self, x: Float[Tensor, "B C *P"]) -> Float[Tensor, "B C *P"]:
        return super().forward(x.movedim(1, -1)).movedim(-1, 1)


@make_norm.register
def _batch(norm: specs.BatchNorm, features: int) -> BatchNorm:
    return BatchNorm(features, norm.eps, norm.momentum)


@make_norm.register
def _group(norm: specs.GroupNorm, features: int) -> GroupNorm:
    return GroupNorm(features, norm.groups, norm.eps)


@make_norm.register
def _layer(norm: specs.LayerNorm, features: int) -> LayerNorm:
    return LayerNorm(features, norm.eps)
