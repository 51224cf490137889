"""Bottlenecks: from the encoder's features to a code, and what the code costs."""

from typing import NamedTuple

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from ae_core.spec import GaussianBottleneck, PlainBottleneck
from ae_jax.model.layers import Linear


class PlainCode(NamedTuple):
    """A deterministic code."""

    z: Float[Array, "B L"]

    def penalties(self, bottleneck: PlainBottleneck) -> dict[str, tuple[float, Float[Array, " B"]]]:
        """Return no penalty."""
        return {}


class GaussianCode(NamedTuple):
    """The posterior N(mean, exp(logvar)) and one draw z from it."""

    mean: Float[Array, "B L"]
    logvar: Float[Array, "B L"]
    z: Float[Array, "B L"]

    def penalties(self, bottleneck: GaussianBottleneck) -> dict[str, tuple[float, Float[Array, " B"]]]:
        """Return the weight and value of KL(N(mean, exp(logvar)) ‖ N(0, I)), in nats per sample.

        Source: Kingma & Welling (2014), appendix B: −½ Σ (1 + logvar − mean² − exp(logvar)).
        """
        kl = -0.5 * (1 + self.logvar - self.mean**2 - jnp.exp(self.logvar)).sum(-1)
        return {"kl": (bottleneck.kl_weight, kl)}


Code = PlainCode | GaussianCode


class PlainHead(nn.Module):
    """z = W·features + b."""

    features: int
    latent: int
    use_bias: bool = True

    def setup(self) -> None:
        self.code = Linear(self.features, self.latent, self.use_bias)

    def __call__(self, x: Float[Array, "B F"], noise: Float[Array, "B L"] | None = None) -> PlainCode:
        return PlainCode(self.code(x))


class GaussianHead(nn.Module):
    """z = mean + exp(½·logvar)·noise; without noise, z = mean. Source: Kingma & Welling (2014), eq. 10."""

    features: int
    latent: int

    def setup(self) -> None:
        self.mean = Linear(self.features, self.latent)
        self.logvar = Linear(self.features, self.latent)

    def __call__(self, x: Float[Array, "B F"], noise: Float[Array, "B L"] | None = None) -> GaussianCode:
        mean, logvar = self.mean(x), self.logvar(x)
        z = mean if noise is None else mean + jnp.exp(0.5 * logvar) * noise
        return GaussianCode(mean, logvar, z)


def make_bottleneck(
    bottleneck: PlainBottleneck | GaussianBottleneck, features: int, use_bias: bool = True
) -> PlainHead | GaussianHead:
    """Return the module that turns the encoder's features into a code.

    ``use_bias`` concerns a plain code alone: a Gaussian mean's bias always has the KL term to answer to.
    """
    match bottleneck:
        case PlainBottleneck(latent):
            return PlainHead(features, latent, use_bias)
        case GaussianBottleneck(latent):
            return GaussianHead(features, latent)
