"""Layers: linear, convolutions and activations, as tiny Linen modules.

Parameters carry PyTorch's names; kernels have JAX's layout: [in, out] and [height, width, in, out]. They are created
as zeros, since their values always come from `Autoencoder.init` or from a file.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from ae_core.spec import Activation
from ae_jax.model.convolution import convolution, transposed_convolution


class Linear(nn.Module):
    """y = x·W + b."""

    in_features: int
    out_features: int
    use_bias: bool = True

    @nn.compact
    def __call__(self, x: Float[Array, "*B I"]) -> Float[Array, "*B O"]:
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


def make_activation(name: Activation, negative_slope: float) -> Callable[[Array], Array]:
    """Return the activation function of that name; at the kink of relu and leaky_relu the left slope holds."""
    functions: dict[str, Callable[[Array], Array]] = {
        "relu": jax.nn.relu,
        "leaky_relu": lambda x: jnp.where(x > 0, x, negative_slope * x),
        "silu": jax.nn.silu,
        "gelu_erf": lambda x: jax.nn.gelu(x, approximate=False),
        "gelu_tanh": lambda x: jax.nn.gelu(x, approximate=True),
    }
    return functions[name]
