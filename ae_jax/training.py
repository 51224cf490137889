"""Training as a pair of pure functions, ``init`` and ``step``, over a state that is a plain pytree."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from ae_core.spec import Spec
from ae_jax.execution.compiler import after
from ae_jax.execution.gradients import Gradients, Inputs, whole_batch
from ae_jax.model.autoencoder import Autoencoder, Variables
from ae_jax.model.bottleneck import NO_NOISE, Coefficients, Noise
from ae_jax.model.norm import Mask
from ae_jax.optim import make_optimizer, moments, with_moments
from ae_jax.tensors import STATE, from_tensors, tensor_shapes, to_tensors


class State(NamedTuple):
    """Everything that training changes."""

    step: Int[Array, ""]
    variables: Variables
    optimizer: Any


class Batch(NamedTuple):
    """One step's input; all randomness is in it."""

    images: Float[Array, "B H W C"]
    learning_rate: float | Float[Array, ""]
    noise: Noise | None = None
    """By the name of its site, as the spec's `noise_sites` are; `ae_jax.noise.draw` makes some."""
    coefficients: Coefficients | None = None
    """Of the spec, at this step; what they come to in the end when absent."""
    mask: Mask | None = None
    """0 for samples that only fill up a shorter batch; 1 for all when absent."""
    samples: Float[Array, ""] | None = None
    """Samples of the whole batch, where this is a device's share of it."""


class TrainingFunctions(NamedTuple):
    """``init(variables) -> state`` and ``step(state, batch) -> (state, terms)``; terms holds the loss by name."""

    init: Callable[[Variables], State]
    step: Callable[[State, Batch], tuple[State, dict[str, Array]]]


def make_training(model: Autoencoder, gradients: Gradients = whole_batch) -> TrainingFunctions:
    """Return the training functions of a model; both may be jitted, and step may donate its state.

    ``gradients`` may compute the gradient of a batch in another way; see `ae_jax.execution.gradients.divided`.
    """
    optimizer = make_optimizer(model.spec.training)

    def init(variables: Variables) -> State:
        return State(jnp.zeros((), jnp.int32), variables, optimizer.init(variables["params"]))

    def step(state: State, batch: Batch) -> tuple[State, dict[str, Array]]:
        params = state.variables["params"]
        inputs = Inputs(batch.images, batch.noise or NO_NOISE, batch.coefficients, batch.mask, batch.samples)
        grads, result = gradients(model, state.variables, inputs)
        direction, moved = optimizer.update(grads, state.optimizer, params)
        learning_rate = after(batch.learning_rate, grads)
        params = jax.tree.map(lambda p, d: p - learning_rate * d, params, direction)
        return State(state.step + 1, {"params": params, STATE: result.state}, moved), {
            "loss": result.total,
            **result.terms,
        }

    return TrainingFunctions(init, step)


def export_state(spec: Spec, state: State) -> dict[str, np.ndarray]:
    """Return parameters, state and moments under PyTorch's names; moments begin with their slot."""
    return {**to_tensors(state.variables), **moments(spec.training.optimizer, state.optimizer)}


def import_state(spec: Spec, state: State, tensors: Mapping[str, np.ndarray], step: int) -> State:
    """Return the state with what `export_state` gave after so many steps, in this twin or the other."""
    own = {name: tensors[name] for name in tensor_shapes(state.variables)}
    precision = spec.training.precision
    restored = with_moments(spec.training.optimizer, state.optimizer, tensors, step, precision)
    return State(jnp.asarray(step, jnp.int32), from_tensors(own, precision), restored)
