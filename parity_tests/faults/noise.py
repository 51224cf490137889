"""Faults in noise, in schedules of coefficients, and in what evaluation leaves out."""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np
import torch

import ae_jax.engine
import ae_jax.execution.dispatch
import ae_jax.model.autoencoder
import ae_jax.noise
import ae_torch.engine
import ae_torch.model.autoencoder
import ae_torch.noise
from ae_core.noise import MULTIPLIERS, ROUNDS
from ae_core.training.steps import coefficients
from parity_tests.faults.planting import (
    Fault,
    Patch,
    after,
    before,
    drawn_jax,
    drawn_torch,
    in_both,
    in_jax,
    in_torch,
    steps,
)

_T, _J = ae_torch, ae_jax
_VAE, _WARM_UP, _FADING = "dense vae", "dense vae, warm-up", "dense vae, fading KL"


def _first_row(noise: Any, axis: int) -> Any:
    one = noise[:1] if axis == 0 else noise[:, :1]
    return 0 * noise + one


def _roll(noise: Any, axis: int) -> Any:
    return torch.roll(noise, 1, axis) if isinstance(noise, torch.Tensor) else jnp.roll(noise, 1, axis)


def _fewer_rounds(counter: Any, key: Any, rounds: int = ROUNDS) -> Any:
    return counter, key, rounds - 1


def _same_key(key: Any, rounds: int) -> Any:
    return [key] * rounds


def _first_coefficients(spec: Any, count: int = 1) -> dict[str, np.ndarray]:
    return coefficients(spec, np.zeros(count, np.int64), 1)


def _fixed_at_first(steps: Any, spec: Any) -> Any:
    return steps._replace(coefficients=_first_coefficients(spec, len(steps.sizes)))


def _fixed_at_last(steps: Any, spec: Any) -> Any:
    last = {name: np.full(len(steps.sizes), value) for name, value in spec.last_coefficients.items()}
    return steps._replace(coefficients=last)


def _one_step_late(steps: Any, spec: Any) -> Any:
    # what comes before a training's first step is worked out as its schedule has it there
    return steps._replace(coefficients=coefficients(spec, np.maximum(steps.numbers - 1, 0), TOTAL))


TOTAL = 40
"""Steps of a case's training: ten epochs of four."""


def _evaluated_torch(change: Callable[..., Any]) -> list[Patch]:
    """Change ``(noise, coefficients)`` where the PyTorch twin evaluates: ``change(model, x, noise, coefficients)``."""

    def arguments(self: Any, x: Any, noise: Any = None, coefficients: Any = None) -> Any:
        if self.training:
            return (self, x, noise, coefficients)
        return (self, x, *change(self, x, noise or {}, coefficients))

    return before(_T.model.autoencoder.Autoencoder, "loss", arguments)


def _evaluated_jax(change: Callable[..., Any]) -> list[Patch]:
    """The same where the JAX twin evaluates."""
    original = _J.model.autoencoder.Autoencoder.loss

    def loss(self: Any, variables: Any, x: Any, *rest: Any, train: bool = True, **given: Any) -> Any:
        if not train:
            noise, factors = change(self, x, given.pop("noise", {}), given.pop("coefficients", None))
            return original(self, variables, x, noise, factors, train=False, **given)
        return original(self, variables, x, *rest, **given)

    return [(_J.model.autoencoder.Autoencoder, "loss", loss)]


def _with_noise(model: Any, x: Any, noise: Any, factors: Any) -> Any:
    ones = torch.ones if isinstance(x, torch.Tensor) else jnp.ones
    return {name: ones((len(x), *site.shape), dtype=x.dtype) for name, site in model.spec.noise_sites.items()}, factors


def _with_first(model: Any, x: Any, noise: Any, factors: Any) -> Any:
    return noise, {name: float(value[0]) for name, value in _first_coefficients(model.spec).items()}


NOISE: dict[str, Fault] = {
    # noise
    **in_both("noise of one sample for all", _VAE, lambda: drawn_torch(_first_row), lambda: drawn_jax(_first_row)),
    **in_both("noise of the next row", _VAE, lambda: drawn_torch(_roll), lambda: drawn_jax(_roll)),
    **in_both(
        "noise of half the variance",
        _VAE,
        lambda: drawn_torch(lambda noise, axis: noise * 0.5**0.5),
        lambda: drawn_jax(lambda noise, axis: noise * 0.5**0.5),
    ),
    **in_both(
        "noise of the step before",
        _VAE,
        lambda: steps(lambda s, _: s._replace(numbers=np.maximum(s.numbers - 1, 0)), _T.engine),
        lambda: steps(lambda s, _: s._replace(numbers=np.maximum(s.numbers - 1, 0)), _J.engine),
    ),
    **in_both(
        "noise of another seed",
        _VAE,
        lambda: steps(lambda s, _: s._replace(seed=s.seed + 1), _T.engine),
        lambda: steps(lambda s, _: s._replace(seed=s.seed + 1), _J.engine),
    ),
    **in_both(
        "noise of another site",
        _VAE,
        lambda: before(_T.engine, "noise_key", lambda seed, site: (seed, "corruption")),
        lambda: before(_J.engine, "noise_key", lambda seed, site: (seed, "corruption")),
    ),
    **in_both(
        "one round of Philox less",
        _VAE,
        lambda: before(_T.noise, "philox", _fewer_rounds),
        lambda: before(_J.noise, "philox", _fewer_rounds),
    ),
    **in_both(
        "Philox with its multipliers exchanged",
        _VAE,
        lambda: [(_T.noise, "MULTIPLIERS", MULTIPLIERS[::-1])],
        lambda: [(_J.noise, "MULTIPLIERS", MULTIPLIERS[::-1])],
    ),
    **in_both(
        "Philox with one key for all rounds",
        _VAE,
        lambda: [(_T.noise, "round_keys", _same_key)],
        lambda: [(_J.noise, "WEYL", (0, 0))],
    ),
    **in_both(
        "sine and cosine exchanged",
        _VAE,
        lambda: after(_T.noise, "_normal", lambda result, uniform: result.roll(2, -2)),
        lambda: after(_J.noise, "_normal", lambda result, uniform: (*result[2:], *result[:2])),
    ),
    **in_jax(
        "uniform numbers at the edges of their intervals",
        _VAE,
        lambda: after(_J.noise, "_uniform", lambda result, *a: tuple(u - 2.0**-24 for u in result)),
    ),
    # coefficients
    **in_both(
        "coefficient of the step before",
        _WARM_UP,
        lambda: steps(_one_step_late, _T.engine),
        lambda: steps(_one_step_late, _J.engine),
    ),
    **in_both(
        "coefficient fixed at its first value",
        _WARM_UP,
        lambda: steps(_fixed_at_first, _T.engine),
        lambda: steps(_fixed_at_first, _J.engine),
    ),
    **in_both(
        "coefficient fixed at its last value",
        _FADING,
        lambda: steps(_fixed_at_last, _T.engine),
        lambda: steps(_fixed_at_last, _J.engine),
    ),
    # evaluation
    **in_both(
        "evaluation with a schedule's first value",
        _FADING,
        lambda: _evaluated_torch(_with_first),
        lambda: _evaluated_jax(_with_first),
    ),
    **in_both(
        "evaluation with noise", _VAE, lambda: _evaluated_torch(_with_noise), lambda: _evaluated_jax(_with_noise)
    ),
    **in_torch(
        "mean and logvar of the posterior exchanged",
        _VAE,
        lambda: after(_T.engine.Inference, "_mean_and_logvar", lambda both, *a: both.flip(1)),
    ),
}
"""By name."""
