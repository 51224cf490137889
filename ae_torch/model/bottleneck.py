"""Bottlenecks: from the encoder's features to a code, and what the code costs."""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ae_core.spec import GaussianBottleneck, PlainBottleneck
from ae_torch.model.layers import Linear


class PlainCode(NamedTuple):
    """A deterministic code."""

    z: Float[Tensor, "B L"]

    def penalties(self, bottleneck: PlainBottleneck) -> dict[str, tuple[float, Float[Tensor, " B"]]]:
        """Return no penalty."""
        return {}


class GaussianCode(NamedTuple):
    """The posterior N(mean, exp(logvar)) and one draw z from it."""

    mean: Float[Tensor, "B L"]
    logvar: Float[Tensor, "B L"]
    z: Float[Tensor, "B L"]

    def penalties(self, bottleneck: GaussianBottleneck) -> dict[str, tuple[float, Float[Tensor, " B"]]]:
        """Return the weight and value of KL(N(mean, exp(logvar)) ‖ N(0, I)), in nats per sample.

        Source: Kingma & Welling (2014), appendix B: −½ Σ (1 + logvar − mean² − exp(logvar)).
        """
        kl = -0.5 * (1 + self.logvar - self.mean**2 - torch.exp(self.logvar)).sum(-1)
        return {"kl": (bottleneck.kl_weight, kl)}


Code = PlainCode | GaussianCode


class PlainHead(nn.Module):
    """z = W·features + b."""

    def __init__(self, features: int, latent: int, use_bias: bool = True) -> None:
        super().__init__()
        self.code = Linear(features, latent, use_bias)

    def forward(self, x: Float[Tensor, "B F"], noise: Float[Tensor, "B L"] | None = None) -> PlainCode:
        return PlainCode(self.code(x))


class GaussianHead(nn.Module):
    """z = mean + exp(½·logvar)·noise; without noise, z = mean. Source: Kingma & Welling (2014), eq. 10."""

    def __init__(self, features: int, latent: int) -> None:
        super().__init__()
        self.mean = Linear(features, latent)
        self.logvar = Linear(features, latent)

    def forward(self, x: Float[Tensor, "B F"], noise: Float[Tensor, "B L"] | None = None) -> GaussianCode:
        mean, logvar = self.mean(x), self.logvar(x)
        z = mean if noise is None else mean + torch.exp(0.5 * logvar) * noise
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
