"""Faults that both twins have at once: no comparison between the two can tell, only what knows neither."""

import math
from dataclasses import replace
from typing import Any

import jax.numpy as jnp
import numpy as np
import torch

import ae_core.data.order
import ae_core.latent.mixture
import ae_core.latent.samplers
import ae_core.latent.walks
import ae_core.metrics.factors
import ae_core.metrics.knn
import ae_core.metrics.reconstruction
import ae_core.metrics.samples
import ae_core.metrics.variational
import ae_core.noise
import ae_core.spec.schedule
import ae_core.training.initial
import ae_core.training.steps
import ae_jax.model.bottleneck
import ae_jax.noise
import ae_torch.model.bottleneck
import ae_torch.noise
from ae_core.noise import MULTIPLIERS, ROUNDS
from parity_tests.faults.layers import LAYERS
from parity_tests.faults.losses import LOSSES
from parity_tests.faults.members import MEMBERS
from parity_tests.faults.planting import Fault, Patch, after, at_once, before, in_all

_CORE = ae_core
_NOISES = ae_core.noise, ae_jax.noise, ae_torch.noise
_SCHEDULE = ae_core.spec.schedule


def _squared(code: Any) -> Any:
    exp = torch.exp if isinstance(code.z, torch.Tensor) else jnp.exp
    # the draw is mean + std·noise; with std² for std it is mean + std·(draw − mean)
    return code._replace(z=code.mean + exp(0.5 * code.logvar) * (code.z - code.mean))


def _variances() -> list[Patch]:
    torch_head, jax_head = ae_torch.model.bottleneck.GaussianHead, ae_jax.model.bottleneck.GaussianHead
    change = lambda code, *a: _squared(code)  # noqa: E731
    return after(torch_head, "forward", change) + after(jax_head, "__call__", change)


TOGETHER: dict[str, Fault] = {
    **in_all("variance for standard deviation", "dense vae", _variances),
    **at_once(
        (
            "same padding with the odd pixel first",
            "transposed padding with the odd pixel first",
            "batch norm eps off by 1 %",
            "batch norm momentum as its complement",
            "group norm with half the groups",
            "gelu by tanh for erf",
            "leaky_relu with the default slope",
            "KL without its half",
            "KL averaged over latent dimensions",
            "KL weight ignored",
            "weight of the reconstruction ignored",
            "sum over pixels for mean",
            "squared error with another half",
            "TopK keeps one more",
            "the other pixels masked",
            "corrupted images cut off at 0 and 1",
            "distance from the capacity squared",
            "enlarged map shifted by a pixel",
            "rates of each sample for those of the batch",
            "target and rate exchanged",
            "norm of the Jacobian not squared",
            "Jacobian of the log-variance for that of the mean",
            "what dropout keeps is not made larger",
            "the other numbers dropped",
            "scale left out",
            "scale that is not learned",
        ),
        LAYERS | LOSSES | MEMBERS,
    ),
}
"""In the files of both twins, by name."""


def _every(name: str, change: Any) -> list[Patch]:
    """Change what a function of the generator returns, in NumPy and in both twins."""
    return [part for module in _NOISES for part in after(module, name, change)]


def _by_outputs(weights: Any, name: str, shape: Any, *arguments: Any) -> Any:
    return weights * math.sqrt(shape[1] / shape[0]) if len(shape) > 1 else weights


def _with_replacement(order: Any, count: int, seed: int, epoch: int) -> Any:
    return np.random.default_rng([seed, epoch]).integers(0, count, count)


def _overlapping(original: Any) -> Any:
    def indices(count: int, batch: int, seed: int, epoch: int, step: int) -> Any:
        chosen = original(count, batch, seed, epoch, step)
        if step:
            chosen[0] = original(count, batch, seed, epoch, step - 1)[-1]
        return chosen

    return indices


def _twice_the_variance(likelihood: Any, *arguments: Any) -> Any:
    return replace(likelihood, variance=2 * likelihood.variance), *arguments


def _scaled(factor: float) -> Any:
    return lambda result, *a: tuple(factor * part for part in result) if isinstance(result, tuple) else factor * result


CORE: dict[str, Fault] = {
    **in_all(
        "variance of weights by the fan of the outputs",
        "initial weights",
        lambda: after(_CORE.training.initial, "_draw", _by_outputs),
    ),
    **in_all(
        "biases that start at 1",
        "initial weights",
        lambda: after(_CORE.training.initial, "_start_of", lambda start, *a: "ones" if start == "zeros" else start),
    ),
    **in_all(
        "cosine without its half",
        "schedules",
        lambda: after(_SCHEDULE.Cosine, "value", lambda v, self, *a: self.final + 2 * (v - self.final)),
    ),
    **in_all(
        "ramp a step late",
        "schedules",
        lambda: before(_SCHEDULE.Ramp, "value", lambda self, step, total: (self, max(step - 1, 0), total)),
    ),
    **in_all(
        "cycles that never rest",
        "schedules",
        lambda: after(_SCHEDULE.Cyclical, "value", lambda v, self, *a: v * self.rising),
    ),
    **in_all(
        "warm-up from 0",
        "schedules",
        lambda: before(_SCHEDULE.Constant, "value", lambda self, step, total: (self, step - 1, total)),
    ),
    **in_all(
        "every epoch in the order of the first",
        "data order",
        lambda: before(_CORE.data.order, "_epoch_order", lambda count, seed, epoch: (count, seed, 0)),
    ),
    **in_all(
        "images drawn with replacement",
        "data order",
        lambda: after(_CORE.data.order, "_epoch_order", _with_replacement),
    ),
    **in_all(
        "batches that overlap",
        "data order",
        lambda: [(_CORE.training.steps, "batch_indices", _overlapping(_CORE.data.order.batch_indices))],
    ),
    **in_all(
        "Philox with its multipliers exchanged",
        "noise",
        lambda: [(module, "MULTIPLIERS", MULTIPLIERS[::-1]) for module in _NOISES],
    ),
    **in_all(
        "one round of Philox less",
        "noise",
        lambda: [
            part
            for module in _NOISES
            for part in before(module, "philox", lambda counter, key, rounds=ROUNDS: (counter, key, rounds - 1))
        ],
    ),
    **in_all("noise of half the variance", "noise", lambda: _every("_normal", _scaled(0.5**0.5))),
    **in_all(
        "KL metric without its half",
        "variational metrics",
        lambda: after(_CORE.metrics.variational, "kl_divergence", _scaled(2.0)),
    ),
    **in_all(
        "log-density at twice the variance",
        "variational metrics",
        lambda: before(_CORE.metrics.reconstruction, "log_probability", _twice_the_variance),
    ),
    **in_all(
        "one principal axis less",
        "principal axes",
        lambda: before(_CORE.metrics.reconstruction, "pca_mse", lambda train, heldout, n: (train, heldout, n - 1)),
    ),
    **in_all(
        "neighbours of the next code",
        "neighbours",
        lambda: before(
            _CORE.metrics.knn, "nearest", lambda q, codes, k, same=False: (q, np.roll(codes, 1, 0), k, same)
        ),
    ),
    **in_all(
        "information in bits over entropy in nats",
        "information",
        lambda: after(_CORE.metrics.factors, "mig", _scaled(1 / math.log(2))),
    ),
    **in_all(
        "energy distance without its factor 2",
        "energy distance",
        lambda: after(_CORE.metrics.samples, "_among", _scaled(2.0)),
    ),
    **in_all(
        "covariance for its root",
        "fitted samplers",
        lambda: [(_CORE.latent.samplers, "covariance_factor", lambda covariance: covariance)],
    ),
    **in_all(
        "mixture of equal weights",
        "fitted samplers",
        lambda: before(
            _CORE.latent.mixture.Mixture,
            "log_parts",
            lambda self, codes: (self._replace(weights=np.full_like(self.weights, 1 / len(self.weights))), codes),
        ),
    ),
    **in_all("walk at an uneven pace", "walks", lambda: after(_CORE.latent.walks, "_times", lambda t, steps: t**2)),
}
"""In `ae_core`, which both twins share, and in what each has of the generator of noise, by name."""
