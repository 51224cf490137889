"""Normalisations, between a layer and its activation.

``mask``, where a call takes it, is 1 for each sample of a batch and 0 for those that only fill it up: given in
training, absent in evaluation.
"""

from functools import singledispatch
from typing import Any

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from ae_core import spec as specs
from ae_core.spec import missing
from ae_jax.tensors import STATE

Mask = Float[Array, " B"]
"""1 for each sample of a batch, 0 for those that only fill it up."""


@singledispatch
def make_norm(norm: specs.Norm, features: int) -> Any:
    """Return the module of a normalisation of ``features`` channels: ``module(x, mask) -> x``.

    Raises:
        MissingError: none is registered for this kind.
    """
    raise missing("ae_jax", "make_norm", norm)


class BatchNorm(nn.Module):
    """Batch normalisation; the running variance is the unbiased one. Source: Ioffe & Szegedy (2015), algorithm 1."""

    features: int
    eps: float
    momentum: float

    @nn.compact
    def __call__(self, x: Float[Array, "B *P C"], mask: Mask | None = None) -> Float[Array, "B *P C"]:
        running_mean = self.variable(STATE, "running_mean", jnp.zeros, (self.features,), x.dtype)
        running_var = self.variable(STATE, "running_var", jnp.ones, (self.features,), x.dtype)
        if mask is None:
            mean, var = running_mean.value, running_var.value
        else:
            share = jnp.expand_dims(mask, tuple(range(1, x.ndim)))
            count = mask.sum() * (x.size // (x.shape[0] * x.shape[-1]))
            axes = tuple(range(x.ndim - 1))
            mean = (share * x).sum(axes) / count
            var = (share * (x - mean) ** 2).sum(axes) / count
            running_mean.value += self.momentum * (mean - running_mean.value)
            running_var.value += self.momentum * (var * count / (count - 1) - running_var.value)
        return _affine(self, (x - mean) / jnp.sqrt(var + self.eps), self.features)


class GroupNorm(nn.Module):
    """Group normalisation over positions and the channels of a group. Source: Wu & He (2018), eq. 1-6."""

    features: int
    groups: int
    eps: float

    @nn.compact
    def __call__(self, x: Float[Array, "B *P C"], mask: Mask | None = None) -> Float[Array, "B *P C"]:
        grouped = x.reshape(x.shape[0], -1, self.groups, self.features // self.groups)
        mean = grouped.mean((1, 3), keepdims=True)
        var = ((grouped - mean) ** 2).mean((1, 3), keepdims=True)
        return _affine(self, ((grouped - mean) / jnp.sqrt(var + self.eps)).reshape(x.shape), self.features)


class LayerNorm(nn.Module):
    """Layer normalisation over the channels, at each position by itself. Source: Ba et al. (2016), eq. 4."""

    features: int
    eps: float

    @nn.compact
    def __call__(self, x: Float[Array, "B *P C"], mask: Mask | None = None) -> Float[Array, "B *P C"]:
        mean = x.mean(-1, keepdims=True)
        var = ((x - mean) ** 2).mean(-1, keepdims=True)
        return _affine(self, (x - mean) / jnp.sqrt(var + self.eps), self.features)


def _affine(module: nn.Module, x: Float[Array, "B *P C"], features: int) -> Float[Array, "B *P C"]:
    weight = module.param("weight", nn.initializers.zeros, (features,), x.dtype)
    return x * weight + module.param("bias", nn.initializers.zeros, (features,), x.dtype)


@make_norm.register
def _batch(norm: specs.BatchNorm, features: int) -> BatchNorm:
    return BatchNorm(features, norm.eps, norm.momentum)


@make_norm.register
def _group(norm: specs.GroupNorm, features: int) -> GroupNorm:
    return GroupNorm(features, norm.groups, norm.eps)


@make_norm.register
def _layer(norm: specs.LayerNorm, features: int) -> LayerNorm:
    return LayerNorm(features, norm.eps)
