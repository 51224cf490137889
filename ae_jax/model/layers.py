"""Layers: linear, convolutions, normalisations and activations, as tiny Linen modules.

Parameters carry PyTorch's names; kernels have JAX's layout: [in, out] and [height, width, in, out]. They are created
as zeros, since their values always come from `Autoencoder.init` or from a file. ``weight``, where a call takes it, is
the weight of each sample in batch statistics: given in training, absent in evaluation.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from ae_core import spec as specs
from ae_jax.model.convolution import convolution, transposed_convolution

SampleWeight = Float[Array, " B"]


class Linear(nn.Module):
    """y = x·W + b."""

    in_features: int
    out_features: int
    use_bias: bool = True

    @nn.compact
    def __call__(self, x: Float[Array, "B I"]) -> Float[Array, "B O"]:
        y = x @ self.param("weight", nn.initializers.zeros, (self.in_features, self.out_features), x.dtype)
        return y + self.param("bias", nn.initializers.zeros, (self.out_features,), x.dtype) if self.use_bias else y


class Conv(nn.Module):
    """Strided convolution with explicit padding before and after both axes."""

    in_channels: int
    out_channels: int
    kernel: int
    stride: int
    pads: tuple[int, int]
    use_bias: bool = True

    @nn.compact
    def __call__(self, x: Float[Array, "B H W I"]) -> Float[Array, "B h w O"]:
        shape = (self.kernel, self.kernel, self.in_channels, self.out_channels)
        y = convolution(x, self.param("weight", nn.initializers.zeros, shape, x.dtype), self.stride, self.pads)
        return y + self.param("bias", nn.initializers.zeros, (self.out_channels,), x.dtype) if self.use_bias else y


class ConvTranspose(nn.Module):
    """Transposed strided convolution; ``crops`` are cut off its full output, a negative number adds pixels."""

    in_channels: int
    out_channels: int
    kernel: int
    stride: int
    crops: tuple[int, int]
    use_bias: bool = True

    @nn.compact
    def __call__(self, x: Float[Array, "B h w I"]) -> Float[Array, "B H W O"]:
        # out before in: the kernel of the convolution that this is the adjoint of
        shape = (self.kernel, self.kernel, self.out_channels, self.in_channels)
        y = transposed_convolution(
            x, self.param("weight", nn.initializers.zeros, shape, x.dtype), self.stride, self.crops
        )
        return y + self.param("bias", nn.initializers.zeros, (self.out_channels,), x.dtype) if self.use_bias else y


class BatchNorm(nn.Module):
    """Batch normalisation; the running variance is the unbiased one. Source: Ioffe & Szegedy (2015), algorithm 1."""

    features: int
    eps: float
    momentum: float

    @nn.compact
    def __call__(self, x: Float[Array, "B *P C"], weight: SampleWeight | None = None) -> Float[Array, "B *P C"]:
        running_mean = self.variable("batch_stats", "running_mean", jnp.zeros, (self.features,), x.dtype)
        running_var = self.variable("batch_stats", "running_var", jnp.ones, (self.features,), x.dtype)
        if weight is None:
            mean, var = running_mean.value, running_var.value
        else:
            share = jnp.expand_dims(weight, tuple(range(1, x.ndim)))
            count = weight.sum() * (x.size // (x.shape[0] * x.shape[-1]))
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
    def __call__(self, x: Float[Array, "B *P C"], weight: SampleWeight | None = None) -> Float[Array, "B *P C"]:
        grouped = x.reshape(x.shape[0], -1, self.groups, self.features // self.groups)
        mean = grouped.mean((1, 3), keepdims=True)
        var = ((grouped - mean) ** 2).mean((1, 3), keepdims=True)
        return _affine(self, ((grouped - mean) / jnp.sqrt(var + self.eps)).reshape(x.shape), self.features)


class LayerNorm(nn.Module):
    """Layer normalisation over the channels, at each position by itself. Source: Ba et al. (2016), eq. 4."""

    features: int
    eps: float

    @nn.compact
    def __call__(self, x: Float[Array, "B *P C"], weight: SampleWeight | None = None) -> Float[Array, "B *P C"]:
        mean = x.mean(-1, keepdims=True)
        var = ((x - mean) ** 2).mean(-1, keepdims=True)
        return _affine(self, (x - mean) / jnp.sqrt(var + self.eps), self.features)


def _affine(module: nn.Module, x: Float[Array, "B *P C"], features: int) -> Float[Array, "B *P C"]:
    weight = module.param("weight", nn.initializers.zeros, (features,), x.dtype)
    return x * weight + module.param("bias", nn.initializers.zeros, (features,), x.dtype)


def make_norm(norm: specs.Norm | None, features: int) -> BatchNorm | GroupNorm | LayerNorm | None:
    """Return the module of a normalisation, or None for none."""
    match norm:
        case specs.BatchNorm(eps, momentum):
            return BatchNorm(features, eps, momentum)
        case specs.GroupNorm(groups, eps):
            return GroupNorm(features, groups, eps)
        case specs.LayerNorm(eps):
            return LayerNorm(features, eps)
        case None:
            return None


def make_activation(name: specs.Activation, negative_slope: float) -> Callable[[Array], Array]:
    """Return the activation function of that name; at the kink of relu and leaky_relu the left slope holds."""
    functions: dict[str, Callable[[Array], Array]] = {
        "relu": jax.nn.relu,
        "leaky_relu": lambda x: jnp.where(x > 0, x, negative_slope * x),
        "silu": jax.nn.silu,
        "gelu_erf": lambda x: jax.nn.gelu(x, approximate=False),
        "gelu_tanh": lambda x: jax.nn.gelu(x, approximate=True),
    }
    return functions[name]
