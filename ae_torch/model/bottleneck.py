"""Bottlenecks: from the encoder's features to a code, and what the code costs."""

import math
from collections.abc import Mapping
from functools import singledispatch
from types import MappingProxyType
from typing import Any, NamedTuple, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ae_core.spec import Bottleneck, GaussianBottleneck, PlainBottleneck, missing
from ae_core.spec.bottleneck import SigmoidBottleneck, TopKBottleneck
from ae_torch.model.layers import Linear

Coefficients = Mapping[str, float | Float[Tensor, ""]]
"""Numbers of one step, by name; see `ae_core.spec.Component.coefficients`."""
Noise = Mapping[str, Float[Tensor, "B ..."]]
"""Noise of one step, by the name of its site."""
NO_NOISE: Noise = MappingProxyType({})
Term = tuple[float | Float[Tensor, ""] | None, Float[Tensor, "..."]]
"""A weight, None for what is only reported, and the value of each sample, [B], or one for the whole batch."""


@runtime_checkable
class Code(Protocol):
    """A code: a NamedTuple with ``z``, and where it is a distribution with ``mean`` and ``logvar``."""

    @property
    def z(self) -> Float[Tensor, "B ..."]:
        """The code itself, [B, *latent shape]."""
        ...

    def penalties(self, bottleneck: Any, coefficients: Coefficients) -> dict[str, Term]:
        """Return the terms that the code adds to the loss, by name."""
        ...


@singledispatch
def make_bottleneck(bottleneck: Bottleneck, features: tuple[int, ...], use_bias: bool = True) -> nn.Module:
    """Return the module that turns features into a code: ``module(features, noise) -> Code``.

    Args:
        bottleneck: of which kind.
        features: shape of one image's features.
        use_bias: False where the decoder takes away again what a constant adds to all codes.

    Raises:
        MissingError: none is registered for this kind.
    """
    raise missing("ae_torch", "make_bottleneck", bottleneck)


class PlainCode(NamedTuple):
    """A deterministic code."""

    z: Float[Tensor, "B ..."]

    def penalties(self, bottleneck: Bottleneck, coefficients: Coefficients) -> dict[str, Term]:
        """Return no penalty."""
        return {}


class PlainHead(nn.Module):
    """z = W·features + b."""

    def __init__(self, features: int, latent: int, use_bias: bool = True) -> None:
        super().__init__()
        self.code = Linear(features, latent, use_bias)

    def forward(self, x: Float[Tensor, "B ..."], noise: Noise) -> PlainCode:
        return PlainCode(self.code(x.flatten(1)))


@make_bottleneck.register
def _plain(bottleneck: PlainBottleneck, features: tuple[int, ...], use_bias: bool = True) -> PlainHead:
    return PlainHead(math.prod(features), bottleneck.latent, use_bias)


class GaussianCode(NamedTuple):
    """The posterior N(mean, exp(logvar)) and one draw z from it."""

    mean: Float[Tensor, "B L"]
    logvar: Float[Tensor, "B L"]
    z: Float[Tensor, "B L"]

    def penalties(self, bottleneck: GaussianBottleneck, coefficients: Coefficients) -> dict[str, Term]:
        """Return the weight and value of KL(N(mean, exp(logvar)) ‖ N(0, I)), in nats per sample.

        With a capacity, KL is only reported, and its distance from the capacity is the penalty.

        Source: Kingma & Welling (2014), appendix B: −½ Σ (1 + logvar − mean² − exp(logvar)); Burgess et al. (2018),
        eq. 8.
        """
        kl = -0.5 * (1 + self.logvar - self.mean**2 - torch.exp(self.logvar)).sum(-1)
        if bottleneck.capacity is None:
            return {"kl": (coefficients["kl"], kl)}
        over = kl - coefficients["nats"]
        # its slope is 0 at 0 in both twins, where that of an absolute value may be anything
        distance = over * torch.sign(over.detach())
        return {"kl": (None, kl), "capacity": (coefficients["capacity"], distance)}


class GaussianHead(nn.Module):
    """z = mean + exp(½·logvar)·noise; without noise, z = mean. Source: Kingma & Welling (2014), eq. 10."""

    def __init__(self, features: int, latent: int) -> None:
        super().__init__()
        self.mean = Linear(features, latent)
        self.logvar = Linear(features, latent)

    def forward(self, x: Float[Tensor, "B ..."], noise: Noise) -> GaussianCode:
        x = x.flatten(1)
        mean, logvar = self.mean(x), self.logvar(x)
        z = mean + torch.exp(0.5 * logvar) * noise["bottleneck"] if "bottleneck" in noise else mean
        return GaussianCode(mean, logvar, z)


@make_bottleneck.register
def _gaussian(bottleneck: GaussianBottleneck, features: tuple[int, ...], use_bias: bool = True) -> GaussianHead:
    # a mean's bias always has the KL term to answer to
    return GaussianHead(math.prod(features), bottleneck.latent)


class TopKHead(nn.Module):
    """z = the k largest of W·features + b, and 0 elsewhere; the gradient goes through what is kept."""

    def __init__(self, features: int, latent: int, k: int, use_bias: bool = True) -> None:
        super().__init__()
        self.k = k
        self.code = Linear(features, latent, use_bias)

    def forward(self, x: Float[Tensor, "B ..."], noise: Noise) -> PlainCode:
        y = self.code(x.flatten(1))
        # torch.topk takes equal numbers in no particular order
        kept = y.detach().sort(dim=1, descending=True, stable=True).indices[:, : self.k]
        return PlainCode(torch.zeros_like(y).scatter(1, kept, y.gather(1, kept)))


@make_bottleneck.register
def _topk(bottleneck: TopKBottleneck, features: tuple[int, ...], use_bias: bool = True) -> TopKHead:
    return TopKHead(math.prod(features), bottleneck.latent, bottleneck.k, use_bias)


class SigmoidCode(NamedTuple):
    """A code of rates in (0, 1)."""

    logits: Float[Tensor, "B L"]
    """log(z / (1 − z)), which says more of z near 0 and 1 than z itself does."""
    z: Float[Tensor, "B L"]

    def penalties(self, bottleneck: Bottleneck, coefficients: Coefficients) -> dict[str, Term]:
        """Return no penalty."""
        return {}


class SigmoidHead(nn.Module):
    """z = 1/(1 + exp(−logits)), logits = W·features + b. Source: Ng (2011), CS294A lecture notes, section 3."""

    def __init__(self, features: int, latent: int) -> None:
        super().__init__()
        self.logits = Linear(features, latent)

    def forward(self, x: Float[Tensor, "B ..."], noise: Noise) -> SigmoidCode:
        logits = self.logits(x.flatten(1))
        return SigmoidCode(logits, torch.sigmoid(logits))


@make_bottleneck.register
def _sigmoid(bottleneck: SigmoidBottleneck, features: tuple[int, ...], use_bias: bool = True) -> SigmoidHead:
    # no decoder takes away what a bias does to rates
    return SigmoidHead(math.prod(features), bottleneck.latent)
