"""Faults in training: optimiser, data, precision, weights and snapshots."""

from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import torch
from torch.nn import functional as F

import ae_jax.engine
import ae_jax.execution.dispatch
import ae_jax.model.autoencoder
import ae_jax.optim
import ae_jax.training
import ae_torch.engine
import ae_torch.model.autoencoder
import ae_torch.model.layers
import ae_torch.optim
import ae_torch.training
from ae_core.files.weights import is_state
from parity_tests.faults.planting import Fault, after, before, hyper_jax, hyper_torch, in_both, in_jax, in_torch, steps

_T, _J = ae_torch, ae_jax


def _in_float32(self: Any, x: torch.Tensor) -> torch.Tensor:
    bias = None if self.bias is None else self.bias.float()
    return F.linear(x.float(), self.weight.float(), bias).to(x.dtype)


def _torch_clip(parameters: Any, max_norm: float | None) -> None:
    if max_norm is not None:
        torch.nn.utils.clip_grad_norm_(list(parameters), max_norm)


def _coupled(o: Any, parameters: Any) -> torch.optim.Optimizer:
    return torch.optim.Adam(parameters, lr=0.0, betas=(o.b1, o.b2), eps=o.eps, weight_decay=o.weight_decay)


def _eps_in_the_root(b1: float, b2: float, eps: float) -> Any:
    return optax.scale_by_adam(b1, b2, eps=0.0, eps_root=eps * eps)


def _uncorrected(b1: float, b2: float, eps: float) -> Any:
    correct = _SCALE_BY_ADAM(b1, b2, eps)

    def update(grads: Any, state: Any, params: Any = None) -> Any:
        _, state = correct.update(grads, state, params)
        return jax.tree.map(lambda m, v: m / (jnp.sqrt(v) + eps), state.mu, state.nu), state

    return optax.GradientTransformation(correct.init, update)


_SCALE_BY_ADAM = ae_jax.optim.scale_by_adam


def _stale_moments(functions: Any) -> Any:
    def step(state: Any, batch: Any) -> Any:
        new, terms = functions.step(state, batch)
        fresh = functions.init(new.variables).optimizer
        count = [leaf for leaf in jax.tree.leaves(new.optimizer) if leaf.ndim == 0 and leaf.dtype == jnp.int32]
        kept = jax.tree.map(lambda f: count[0] if count and f.ndim == 0 and f.dtype == jnp.int32 else f, fresh)
        return new._replace(optimizer=kept), terms

    return functions._replace(step=step)


def _ignored_mask(functions: Any) -> Any:
    return functions._replace(step=lambda state, batch: functions.step(state, batch._replace(mask=None)))


def _short_batches_skipped(steps: Any, spec: Any) -> Any:
    full = steps.sizes == steps.indices.shape[1]
    # a step of learning rate 0 on some full batch stands for one that is not taken
    return steps._replace(
        sizes=np.full_like(steps.sizes, steps.indices.shape[1]),
        learning_rates=np.where(full, steps.learning_rates, 0.0),
    )


def _accumulating(optimizer: torch.optim.Optimizer) -> torch.optim.Optimizer:
    optimizer.zero_grad = lambda set_to_none=True: None  # type: ignore[method-assign]
    return optimizer


def _nesterov(optimizer: torch.optim.Optimizer) -> torch.optim.Optimizer:
    for group in optimizer.param_groups:
        group["nesterov"] = True
    return optimizer


_IMPORT_TORCH, _IMPORT_JAX = ae_torch.training.import_state, ae_jax.training.import_state


def _state_kept_torch(spec: Any, state: Any, tensors: Any, step: int) -> Any:
    own = ae_torch.to_tensors(state.model)
    return _IMPORT_TORCH(spec, state, {n: own[n] if is_state(n) else t for n, t in tensors.items()}, step)


def _state_kept_jax(spec: Any, state: Any, tensors: Any, step: int) -> Any:
    own = ae_jax.to_tensors(state.variables)
    return _IMPORT_JAX(spec, state, {n: own[n] if is_state(n) else t for n, t in tensors.items()}, step)


def _moments_kept_torch(spec: Any, state: Any, tensors: Any, step: int) -> Any:
    return _IMPORT_TORCH(spec, state, {name: tensors[name] for name in state.model.shapes}, step)


def _moments_kept_jax(spec: Any, state: Any, tensors: Any, step: int) -> Any:
    return _IMPORT_JAX(spec, state, tensors, step)._replace(optimizer=state.optimizer)


TRAINING: dict[str, Fault] = {
    # optimiser
    **in_both(
        "Adam eps 1e-7 for 1e-8",
        "conv same",
        lambda: hyper_torch(eps=1e-7),
        lambda: hyper_jax(eps=1e-7),
    ),
    **in_both(
        "Adam b2 0.9990001 for 0.999",
        "conv same",
        lambda: hyper_torch(b2=0.9990001),
        lambda: hyper_jax(b2=0.9990001),
    ),
    **in_both(
        "Adam b1 0.95 for 0.9",
        "conv same",
        lambda: hyper_torch(b1=0.95),
        lambda: hyper_jax(b1=0.95),
    ),
    **in_jax("Adam eps inside the root", "conv same", lambda: [(_J.optim, "scale_by_adam", _eps_in_the_root)]),
    **in_jax("Adam without bias correction", "conv same", lambda: [(_J.optim, "scale_by_adam", _uncorrected)]),
    **in_both(
        "weight decay 1e-2 for 5e-2",
        "dense vae",
        lambda: hyper_torch(weight_decay=1e-2),
        lambda: hyper_jax(weight_decay=1e-2),
    ),
    **in_torch("weight decay coupled", "dense vae", lambda: [(_T.training, "make_optimizer", _coupled)]),
    **in_both(
        "SGD momentum 0.9 for 0.8",
        "dense 3 channels",
        lambda: hyper_torch(momentum=0.9),
        lambda: hyper_jax(momentum=0.9),
    ),
    **in_torch(
        "Nesterov's momentum",
        "dense 3 channels",
        lambda: after(_T.training, "make_optimizer", lambda o, *a: _nesterov(o)),
    ),
    **in_torch(
        "clipping adds 1e-6 to the norm",
        "dense 3 channels",
        lambda: [(_T.training, "clip_by_global_norm", _torch_clip)],
    ),
    **in_jax(
        "gradients not clipped",
        "dense 3 channels",
        lambda: [(_J.optim, "clip_by_global_norm", lambda norm: optax.identity())],
    ),
    **in_jax(
        "gradients clipped one by one",
        "dense 3 channels",
        lambda: [(_J.optim, "clip_by_global_norm", lambda norm: optax.clip_by_block_rms(norm))],
    ),
    **in_torch(
        "gradients not reset",
        "conv same",
        lambda: after(_T.training, "make_optimizer", lambda o, *a: _accumulating(o)),
    ),
    **in_jax(
        "moments reset at each step",
        "conv same",
        lambda: after(_J.execution.dispatch, "make_training", lambda f, *a: _stale_moments(f)),
    ),
    **in_both(
        "learning rate of the step before",
        "dense vae",
        lambda: steps(lambda s, _: s._replace(learning_rates=np.roll(s.learning_rates, 1) * 0.9), _T.engine),
        lambda: steps(lambda s, _: s._replace(learning_rates=np.roll(s.learning_rates, 1) * 0.9), _J.engine),
    ),
    # data
    **in_both(
        "data off by one",
        "conv same",
        lambda: steps(lambda s, _: s._replace(indices=(s.indices + 1) % 20), _T.engine),
        lambda: steps(lambda s, _: s._replace(indices=(s.indices + 1) % 20), _J.engine),
    ),
    **in_both(
        "last batch dropped",
        "conv same",
        lambda: steps(_short_batches_skipped, _T.engine),
        lambda: steps(_short_batches_skipped, _J.engine),
    ),
    **in_jax(
        "mask of the last batch ignored",
        "conv same",
        lambda: after(_J.execution.dispatch, "make_training", lambda f, *a: _ignored_mask(f)),
    ),
    # precision and weights
    **in_torch("a layer in float32", "dense silu", lambda: [(_T.model.layers.Linear, "forward", _in_float32)]),
    **in_jax(
        "weights narrowed to float32",
        "dense silu",
        lambda: before(_J.engine, "from_tensors", lambda t, p: ({n: a.astype(np.float32) for n, a in t.items()}, p)),
    ),
    **in_torch(
        "initial weights by another seed",
        "conv same",
        lambda: before(_T.model.autoencoder, "initial_weights", lambda shapes, spec, seed: (shapes, spec, seed + 1)),
    ),
    **in_jax(
        "initial weights by another fan",
        "conv he_normal",
        lambda: before(
            _J.model.autoencoder,
            "initial_weights",
            lambda shapes, spec, seed: (shapes, replace(spec, initializer="lecun_normal"), seed),
        ),
    ),
    # snapshots
    **in_both(
        "state not restored",
        "conv batch norm",
        lambda: [(_T.engine, "import_state", _state_kept_torch)],
        lambda: [(_J.engine, "import_state", _state_kept_jax)],
    ),
    **in_both(
        "moments not restored",
        "dense silu",
        lambda: [(_T.engine, "import_state", _moments_kept_torch)],
        lambda: [(_J.engine, "import_state", _moments_kept_jax)],
    ),
    **in_both(
        "number of steps not restored",
        "dense silu",
        lambda: before(_T.engine, "import_state", lambda spec, state, tensors, step: (spec, state, tensors, 0)),
        lambda: before(_J.engine, "import_state", lambda spec, state, tensors, step: (spec, state, tensors, 0)),
    ),
}
"""By name."""
