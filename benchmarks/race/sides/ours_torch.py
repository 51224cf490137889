"""Our PyTorch twin, through its public engine, over its published grid of variants."""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.func import functional_call, grad_and_value, stack_module_state, vmap

import ae_core.training.engine
import ae_torch
from ae_core.system.environment import usable_cores
from ae_torch.engine import ENGINE, Inference, Trainer
from ae_torch.execution.variants import VARIANTS
from ae_torch.model.likelihood import make_likelihood
from ae_torch.optim import make_optimizer
from benchmarks.race.sides import Runner
from benchmarks.race.sides.engine import Inferring, Training, check_many
from benchmarks.race.workloads import Material, Workload, material


class Many:
    """Many models of one spec at once: gradients mapped over stacked parameters, one optimiser over the stack."""

    def __init__(self, workload: Workload, arrays: Material, compiled: bool) -> None:
        check_many(workload.spec)
        models = [ae_torch.from_tensors(ae_torch.Autoencoder(workload.spec), start) for start in arrays.tensors]
        self.parameters, _ = stack_module_state(models)
        self.optimizer = make_optimizer(workload.spec.training.optimizer, self.parameters.values())
        self.images = torch.from_numpy(arrays.images[arrays.steps.indices])
        self.rates = arrays.steps.learning_rates
        skeleton = ae_torch.Autoencoder(workload.spec).to("meta")
        likelihood = make_likelihood(workload.spec.likelihood)

        def loss(parameters: dict[str, Tensor], x: Tensor) -> Tensor:
            _, output = functional_call(skeleton, parameters, (x,))
            return likelihood.negative_log_likelihood(output, x).mean()

        gradients = vmap(grad_and_value(loss), in_dims=(0, None))
        self.gradients = torch.compile(gradients) if compiled else gradients

    def take(self, steps: int, first: int = 0) -> Float[np.ndarray, "K M"]:
        """Return the loss of each step and model."""
        losses = []
        for i in range(first, first + steps):
            row = i % len(self.images)
            with torch.no_grad():
                gradients, values = self.gradients(self.parameters, self.images[row])
            for name, parameter in self.parameters.items():
                parameter.grad = gradients[name]
            for group in self.optimizer.param_groups:
                group["lr"] = float(self.rates[row])
            self.optimizer.step()
            losses.append(values)
        return torch.stack(losses).numpy()

    def settle(self) -> None:
        """Wait for the device."""
        settle()


class InTurn:
    """Many models of one spec, one after another: each has a trainer of its own, which takes all steps of a call."""

    def __init__(self, workload: Workload, arrays: Material) -> None:
        train = trainer_of(workload, "channels_last")
        trainers = [train(workload.spec, start, arrays.images) for start in arrays.tensors]
        self.trainings = [Training(trainer, arrays, settle) for trainer in trainers]

    def take(self, steps: int, first: int = 0) -> Float[np.ndarray, "K M"]:
        """Return the loss of each step and model."""
        return np.stack([training.take(steps, first) for training in self.trainings], 1)

    def settle(self) -> None:
        """Wait for the device."""
        settle()


def prepare() -> None:
    """Let PyTorch use as many cores as JAX does."""
    torch.set_num_threads(usable_cores())


def settle(*under_way: Any) -> None:
    """Wait for a GPU; on a CPU nothing is ever under way."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def trainer_of(workload: Workload, variant: str) -> Callable[..., ae_core.training.engine.Trainer]:
    """Return a function that begins a training in this variant: ``(spec, tensors, images) -> Trainer``."""
    return partial(Trainer, variant=VARIANTS[variant])


def shapes(workload: Workload) -> dict[str, tuple[int, ...]]:
    """Return names and shapes of the tensors of the workload's model."""
    return ENGINE.shapes(workload.spec)


def open_runner(workload: Workload, variant: str) -> Runner:
    """Return the runner of a variant."""
    arrays = material(workload, shapes(workload))
    if workload.phase == "many" and variant == "in turn":
        return InTurn(workload, arrays)
    if workload.phase == "many":
        return Many(workload, arrays, variant == "func+compile")
    if workload.phase == "train":
        trainer = trainer_of(workload, variant)(workload.spec, arrays.tensors[0], arrays.images)
        return Training(trainer, arrays, settle)
    return Inferring(Inference(workload.spec, arrays.tensors[0], VARIANTS[variant]), workload, arrays)
