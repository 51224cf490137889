"""Training as a pair of functions, ``init`` and ``step``, over a state whose module and optimiser change in place."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from ae_core.spec import Spec
from ae_torch.model.autoencoder import Autoencoder
from ae_torch.model.bottleneck import NO_NOISE, Coefficients, Noise
from ae_torch.optim import clip_by_global_norm, make_optimizer, moments, with_moments
from ae_torch.tensors import from_tensors, tensor_shapes, to_tensors


class State(NamedTuple):
    """Everything that training changes."""

    step: int
    model: Autoencoder
    optimizer: torch.optim.Optimizer


class Batch(NamedTuple):
    """One step's input; all randomness is in it."""

    images: Float[Tensor, "B H W C"]
    learning_rate: float
    noise: Noise | None = None
    """By the name of its site, as the spec's `noise_sites` are; `ae_torch.noise.draw` makes some."""
    coefficients: Coefficients | None = None
    """Of the spec, at this step; what they come to in the end when absent."""


class TrainingFunctions(NamedTuple):
    """``init(model) -> state`` and ``step(state, batch) -> (state, terms)``; terms holds the loss by name."""

    init: Callable[[Autoencoder], State]
    step: Callable[[State, Batch], tuple[State, dict[str, Tensor]]]


def make_training(model: Autoencoder) -> TrainingFunctions:
    """Return the training functions of a model's spec."""
    training = model.spec.training

    def init(model: Autoencoder) -> State:
        return State(0, model, make_optimizer(training.optimizer, model.parameters()))

    def step(state: State, batch: Batch) -> tuple[State, dict[str, Tensor]]:
        model, optimizer = state.model, state.optimizer
        if not model.training:  # to say so goes through all modules, which a small model's step would feel
            model.train()
        optimizer.zero_grad(set_to_none=True)
        result = model.loss(batch.images, batch.noise or NO_NOISE, batch.coefficients)
        result.total.backward()
        clip_by_global_norm(model.parameters(), training.clip_norm)
        for group in optimizer.param_groups:
            group["lr"] = batch.learning_rate
        optimizer.step()
        terms = {"loss": result.total, **result.terms}
        return State(state.step + 1, model, optimizer), {name: value.detach() for name, value in terms.items()}

    return TrainingFunctions(init, step)


def export_state(spec: Spec, state: State) -> dict[str, np.ndarray]:
    """Return parameters, state and moments; moments begin with their slot."""
    return {**to_tensors(state.model), **moments(spec.training.optimizer, state.model, state.optimizer)}


def import_state(spec: Spec, state: State, tensors: Mapping[str, np.ndarray], step: int) -> State:
    """Return the state, set to what `export_state` gave after so many steps, in this twin or the other."""
    model = from_tensors(state.model, {name: tensors[name] for name in tensor_shapes(state.model)})
    return State(step, model, with_moments(spec.training.optimizer, model, state.optimizer, tensors, step))
