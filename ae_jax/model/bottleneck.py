"""Bottlenecks: from the encoder's features to a code, and what the code costs."""

import math
from collections.abc import Mapping
from functools import singledispatch
from types import MappingProxyType
from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import lax
from jaxtyping import Array, Float

from ae_core.spec import Bottleneck, GaussianBottleneck, PlainBottleneck, missing
from ae_core.spec.bottleneck import SigmoidBottleneck, TopKBottleneck
from ae_jax.model.layers import Linear
from ae_jax.model.norm import Mask

Coefficients = Mapping[str, float | Float[Array, ""]]
"""Numbers of one step, by name; see `ae_core.spec.Component.coefficients`."""
Noise = Mapping[str, Float[Array, "B ..."]]
"""Noise of one step, by the name of its site."""
NO_NOISE: Noise = MappingProxyType({})
Term = tuple[float | Float[Array, ""] | None, Float[Array, "..."]]
"""A weight, None for what is only reported, and the value of each sample, [B], or one for the whole batch."""


@runtime_checkable
class Code(Protocol):
    """A code: a NamedTuple with ``z``, and where it is a distribution with ``mean`` and ``logvar``."""

    @property
    def z(self) -> Float[Array, "B ..."]:
        """The code itself, [B, *latent shape]."""
        ...

    def penalties(self, bottleneck: Any, coefficients: Coefficients) -> dict[str, Term]:
        """Return the terms that the code adds to the loss, by name."""
        ...


@singledispatch
def make_bottleneck(bottleneck: Bottleneck, features: tuple[int, ...], use_bias: bool = True) -> Any:
    """Return the Linen module that turns features into a code: ``module(features, noise, mask) -> Code``.

    Args:
        bottleneck: of which kind.
        features: shape of one image's features.
        use_bias: False where the decoder takes away again what a constant adds to all codes.

    Raises:
        MissingError: none is registered for this kind.
    """
    raise missing("ae_jax", "make_bottleneck", bottleneck)


class PlainCode(NamedTuple):
    """A deterministic code."""

    z: Float[Array, "B ..."]

    def penalties(self, bottleneck: Bottleneck, coefficients: Coefficients) -> dict[str, Term]:
        """Return no penalty."""
        return {}


class PlainHead(nn.Module):
    """z = W·features + b."""

    features: int
    latent: int
    use_bias: bool = True

    def setup(self) -> None:
        self.code = Linear(self.features, self.latent, self.use_bias)

    def __call__(self, x: Float[Array, "B ..."], noise: Noise, mask: Mask | None = None) -> PlainCode:
        return PlainCode(self.code(x.reshape(x.shape[0], -1)))


@make_bottleneck.register
def _plain(bottleneck: PlainBottleneck, features: tuple[int, ...], use_bias: bool = True) -> PlainHead:
    return PlainHead(math.prod(features), bottleneck.latent, use_bias)


class GaussianCode(NamedTuple):
    """The posterior N(mean, exp(logvar)) and one draw z from it."""

    mean: Float[Array, "B L"]
    logvar: Float[Array, "B L"]
    z: Float[Array, "B L"]

    def penalties(self, bottleneck: GaussianBottleneck, coefficients: Coefficients) -> dict[str, Term]:
        """Return the weight and value of KL(N(mean, exp(logvar)) ‖ N(0, I)), in nats per sample.

        With a capacity, KL is only reported, and its distance from the capacity is the penalty.

        Source: Kingma & Welling (2014), appendix B: −½ Σ (1 + logvar − mean² − exp(logvar)); Burgess et al. (2018),
        eq. 8.
        """
        kl = -0.5 * (1 + self.logvar - self.mean**2 - jnp.exp(self.logvar)).sum(-1)
        if bottleneck.capacity is None:
            return {"kl": (coefficients["kl"], kl)}
        over = kl - coefficients["nats"]
        # its slope is 0 at 0 in both twins, where that of an absolute value may be anything
        distance = over * lax.stop_gradient(jnp.sign(over))
        return {"kl": (None, kl), "capacity": (coefficients["capacity"], distance)}


class GaussianHead(nn.Module):
    """z = mean + exp(½·logvar)·noise; without noise, z = mean. Source: Kingma & Welling (2014), eq. 10."""

    features: int
    latent: int

    def setup(self) -> None:
        self.mean = Linear(self.features, self.latent)
        self.logvar = Linear(self.features, self.latent)

    def __call__(self, x: Float[Array, "B ..."], noise: Noise, mask: Mask | None = None) -> GaussianCode:
        x = x.reshape(x.shape[0], -1)
        mean, logvar = self.mean(x), self.logvar(x)
        z = mean + jnp.exp(0.5 * logvar) * noise["bottleneck"] if "bottleneck" in noise else mean
        return GaussianCode(mean, logvar, z)


@make_bottleneck.register
def _gaussian(bottleneck: GaussianBottleneck, features: tuple[int, ...], use_bias: bool = True) -> GaussianHead:
    # a mean's bias always has the KL term to answer to
    return GaussianHead(math.prod(features), bottleneck.latent)


class TopKHead(nn.Module):
    """z = the k largest of W·features + b, and 0 elsewhere; the gradient goes through what is kept."""

    features: int
    latent: int
    k: int
    use_bias: bool = True

    def setup(self) -> None:
        self.code = Linear(self.features, self.latent, self.use_bias)

    def __call__(self, x: Float[Array, "B ..."], noise: Noise, mask: Mask | None = None) -> PlainCode:
        y = self.code(x.reshape(x.shape[0], -1))
        _, kept = lax.top_k(y, self.k)  # of equal numbers the one with the lower index comes first
        rows = jnp.arange(len(y))[:, None]
        return PlainCode(jnp.where(jnp.zeros(y.shape, bool).at[rows, kept].set(True), y, 0))


@make_bottleneck.register
def _topk(bottleneck: TopKBottleneck, features: tuple[int, ...], use_bias: bool = True) -> TopKHead:
    return TopKHead(math.prod(features), bottleneck.latent, bottleneck.k, use_bias)


class SigmoidCode(NamedTuple):
    """A code of rates in (0, 1)."""

    logits: Float[Array, "B L"]
    """log(z / (1 − z)), which says more of z near 0 and 1 than z itself does."""
    z: Float[Array, "B L"]

    def penalties(self, bottleneck: Bottleneck, coefficients: Coefficients) -> dict[str, Term]:
        """Return no penalty."""
        return {}


class SigmoidHead(nn.Module):
    """z = 1/(1 + exp(−logits)), logits = W·features + b. Source: Ng (2011), CS294A lecture notes, section 3."""

    features: int
    latent: int

    def setup(self) -> None:
        self.logits = Linear(self.features, self.latent)

    def __call__(self, x: Float[Array, "B ..."], noise: Noise, mask: Mask | None = None) -> SigmoidCode:
        logits = self.logits(x.reshape(x.shape[0], -1))
        return SigmoidCode(logits, jax.nn.sigmoid(logits))


@make_bottleneck.register
def _sigmoid(bottleneck: SigmoidBottleneck, features: tuple[int, ...], use_bias: bool = True) -> SigmoidHead:
    # no decoder takes away what a bias does to rates
    return SigmoidHead(math.prod(features), bottleneck.latent)
