"""The JAX half."""

# setup, __call__ and forward are what the class's docstring says
# ruff: noqa: D102

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn
from jaxtyping import Array, Float

from ae_jax.model.bottleneck import Coefficients, Noise, Term, make_bottleneck
from ae_jax.model.corruption import corrupt
from ae_jax.model.layers import Conv, Linear
from ae_jax.model.likelihood import make_likelihood
from ae_jax.model.norm import Mask, make_norm
from ae_jax.model.penalty import Seen, penalty
from ae_jax.optim import make_direction, slots_of
from ae_jax.tensors import STATE
from outside_parts import (
    CenteredBottleneck,
    CodeL1,
    Decorrelation,
    Lion,
    MapBottleneck,
    RMSNorm,
    RMSprop,
    StudentT,
    UniformNoise,
)


class RMS(nn.Module):
    """y = weight·x / √(mean of x² over the channels + eps)."""

    features: int
    eps: float

    @nn.compact
    def __call__(self, x: Float[Array, "B *P C"], mask: Mask | None = None) -> Float[Array, "B *P C"]:
        scale = jnp.sqrt((x**2).mean(-1, keepdims=True) + self.eps)
        return x / scale * self.param("weight", nn.initializers.zeros, (self.features,), x.dtype)


class Code(NamedTuple):
    """A code without a cost."""

    z: Float[Array, "B ..."]

    def penalties(self, bottleneck: Any, coefficients: Coefficients) -> dict[str, Term]:
        """Return no penalty."""
        return {}


class CenteredHead(nn.Module):
    """z = W·features + b − running mean; the mean takes the batch in afterwards, in training."""

    features: int
    latent: int
    momentum: float
    use_bias: bool

    @nn.compact
    def __call__(self, x: Float[Array, "B ..."], noise: Noise, mask: Mask | None = None) -> Code:
        y = Linear(self.features, self.latent, self.use_bias, name="code")(x.reshape(x.shape[0], -1))
        center = self.variable(STATE, "running_center", jnp.zeros, (self.latent,), x.dtype)
        z = y - center.value
        if mask is not None:
            mean = (mask[:, None] * y).sum(0) / mask.sum()
            center.value += self.momentum * (mean - center.value)
        return Code(z)


class MapHead(nn.Module):
    """z = W·features + b at each place."""

    features: int
    channels: int
    use_bias: bool

    def setup(self) -> None:
        self.code = Conv(self.features, self.channels, 1, 1, (0, 0), self.use_bias)

    def __call__(self, x: Float[Array, "B h w F"], noise: Noise, mask: Mask | None = None) -> Code:
        return Code(self.code(x))


@dataclass(frozen=True)
class Student:
    """Pixels as variables with Student's t distribution; the output is their mean."""

    degrees: float
    scale: float

    def mean(self, output: Float[Array, "B H W C"]) -> Float[Array, "B H W C"]:
        """Return output itself."""
        return output

    def negative_log_likelihood(
        self, output: Float[Array, "B H W C"], x: Float[Array, "B H W C"]
    ) -> Float[Array, " B"]:
        """Return the sum over each image, without its constant."""
        squares = (x - output) ** 2 / (self.degrees * self.scale**2)
        return 0.5 * (self.degrees + 1) * jnp.log1p(squares).sum((1, 2, 3))


class LionState(NamedTuple):
    """A mean of gradients."""

    mu: Any


@make_norm.register
def _rms(norm: RMSNorm, features: int) -> RMS:
    return RMS(features, norm.eps)


@make_bottleneck.register
def _centered(bottleneck: CenteredBottleneck, features: tuple[int, ...], use_bias: bool = True) -> CenteredHead:
    return CenteredHead(features[-1], bottleneck.latent, bottleneck.momentum, use_bias)


@make_bottleneck.register
def _map(bottleneck: MapBottleneck, features: tuple[int, ...], use_bias: bool = True) -> MapHead:
    return MapHead(features[-1], bottleneck.channels, use_bias)


@make_likelihood.register
def _student_t(likelihood: StudentT) -> Student:
    return Student(likelihood.degrees, likelihood.scale)


@corrupt.register
def _uniform_noise(
    corruption: UniformNoise, x: Float[Array, "B H W C"], noise: Float[Array, "B H W C"]
) -> Float[Array, "B H W C"]:
    return x + corruption.scale * (2 * noise - 1)


@penalty.register
def _code_l1(part: CodeL1, seen: Seen) -> Float[Array, " B"]:
    z = seen.code.z.reshape(len(seen.code.z), -1)
    return (z * jnp.sign(z)).sum(1)  # at 0 the slope of abs is 1 in JAX and 0 in PyTorch; this one is 0 in both


@penalty.register
def _decorrelation(part: Decorrelation, seen: Seen) -> Float[Array, ""]:
    z, share = seen.code.z.reshape(len(seen.code.z), -1), seen.mask[:, None] / seen.mask.sum()
    centered = z - (share * z).sum(0)
    covariance = (share * centered).T @ centered
    return (covariance**2).sum() - (jnp.diagonal(covariance) ** 2).sum()


@make_direction.register
def _rmsprop(optimizer: RMSprop) -> optax.GradientTransformation:
    return optax.scale_by_rms(optimizer.smoothing, optimizer.eps, initial_scale=0.0, eps_in_sqrt=False)


@slots_of.register
def _mean_square_of_rmsprop(optimizer: RMSprop) -> Mapping[str, str]:
    return {"square_avg": "nu"}


@make_direction.register
def _lion(optimizer: Lion) -> optax.GradientTransformation:
    def init(params: Any) -> LionState:
        return LionState(optax.tree.zeros_like(params))

    def update(grads: Any, state: Any, params: Any = None) -> tuple[Any, LionState]:
        def mixed(share: float) -> Any:
            return jax.tree.map(lambda m, g: share * m + (1 - share) * g, state.mu, grads)

        return jax.tree.map(jnp.sign, mixed(optimizer.b1)), LionState(mixed(optimizer.b2))

    return optax.GradientTransformation(init, update)


@slots_of.register
def _mean_of_lion(optimizer: Lion) -> Mapping[str, str]:
    return {"exp_avg": "mu"}
