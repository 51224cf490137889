"""Faults in the bottleneck and the loss."""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import torch
from torch.nn import functional as F

import ae_jax.model.autoencoder
import ae_jax.model.bottleneck
import ae_jax.model.likelihood
import ae_torch.model.autoencoder
import ae_torch.model.bottleneck
import ae_torch.model.likelihood
from parity_tests.faults.planting import Fault, Patch, after, before, in_both, in_torch

_T, _J = ae_torch, ae_jax


def _logstd_torch(self: Any, x: Any, noise: Any) -> Any:
    x = x.flatten(1)
    mean, logvar = self.mean(x), self.logvar(x)
    z = mean + torch.exp(logvar) * noise["bottleneck"] if "bottleneck" in noise else mean
    return ae_torch.model.bottleneck.GaussianCode(mean, logvar, z)


def _kl(cls: Any, change: Callable[[Any, Any], Any]) -> list[Patch]:
    """Change the KL term: ``change(value, code)``."""
    return after(cls, "penalties", lambda result, code, *a: {"kl": (result["kl"][0], change(result["kl"][1], code))})


def _unweighted(terms: Any, *arguments: Any) -> Any:
    return terms | {"reconstruction": (1.0, terms["reconstruction"][1])}


def _without_noise(*arguments: Any) -> Any:
    module, x, _, *rest = arguments
    return module, x, {}, *rest


def _nll(cls: Any, change: Callable[..., Any]) -> list[Patch]:
    return after(cls, "negative_log_likelihood", lambda result, self, output, x: change(result, output, x))


def _probabilities(self: Any, output: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    values = F.binary_cross_entropy(torch.sigmoid(output), x, reduction="none")
    return values.mean((1, 2, 3)) if self.reduction == "mean" else values.sum((1, 2, 3))


def _linear_branch(output: Any, x: Any) -> Any:
    return (jnp.where(output > 20, output, jnp.logaddexp(output, 0)) - x * output).sum((1, 2, 3))


LOSSES: dict[str, Fault] = {
    **in_torch(
        "log-std for log-variance", "dense vae", lambda: [(_T.model.bottleneck.GaussianHead, "forward", _logstd_torch)]
    ),
    **in_both(
        "KL without its half",
        "dense vae",
        lambda: _kl(_T.model.bottleneck.GaussianCode, lambda kl, code: 2 * kl),
        lambda: _kl(_J.model.bottleneck.GaussianCode, lambda kl, code: 2 * kl),
    ),
    **in_both(
        "KL averaged over latent dimensions",
        "dense vae",
        lambda: _kl(_T.model.bottleneck.GaussianCode, lambda kl, code: kl / code.mean.shape[1]),
        lambda: _kl(_J.model.bottleneck.GaussianCode, lambda kl, code: kl / code.mean.shape[1]),
    ),
    **in_both(
        "KL weight ignored",
        "dense vae",
        lambda: after(_T.model.bottleneck.GaussianCode, "penalties", lambda r, *a: {"kl": (1.0, r["kl"][1])}),
        lambda: after(_J.model.bottleneck.GaussianCode, "penalties", lambda r, *a: {"kl": (1.0, r["kl"][1])}),
    ),
    **in_both(
        "KL summed over the batch",
        "dense vae",
        lambda: _kl(_T.model.bottleneck.GaussianCode, lambda kl, code: kl * len(kl)),
        lambda: _kl(_J.model.bottleneck.GaussianCode, lambda kl, code: kl * len(kl)),
    ),
    **in_both(
        "posterior's mean for its draw",
        "dense vae",
        lambda: before(_T.model.bottleneck.GaussianHead, "forward", _without_noise),
        lambda: before(_J.model.bottleneck.GaussianHead, "__call__", _without_noise),
    ),
    **in_both(
        "weight of the reconstruction ignored",
        "dense 3 channels",
        lambda: after(_T.model.autoencoder.Autoencoder, "_terms", _unweighted),
        lambda: after(_J.model.autoencoder.Autoencoder, "_terms", _unweighted),
    ),
    **in_both(
        "sum over pixels for mean",
        "conv same",
        lambda: _nll(_T.model.likelihood.Bernoulli, lambda v, output, x: v * x[0].numel()),
        lambda: _nll(_J.model.likelihood.Bernoulli, lambda v, output, x: v * x[0].size),
    ),
    **in_both(
        "squared error with another half",
        "dense 3 channels",
        lambda: _nll(_T.model.likelihood.Gaussian, lambda v, output, x: v / 2),
        lambda: _nll(_J.model.likelihood.Gaussian, lambda v, output, x: v / 2),
    ),
    **in_torch(
        "cross-entropy on clamped probabilities",
        "dense saturated",
        lambda: [(_T.model.likelihood.Bernoulli, "negative_log_likelihood", _probabilities)],
    ),
    **in_both(
        "softplus with a linear branch above 20",
        "bernoulli, saturated",
        lambda: _nll(
            _T.model.likelihood.Bernoulli, lambda v, output, x: (F.softplus(output) - x * output).sum((1, 2, 3))
        ),
        lambda: _nll(_J.model.likelihood.Bernoulli, lambda v, output, x: _linear_branch(output, x)),
    ),
}
"""By name."""
