"""Our PyTorch twin, through its public engine, over its published grid of variants."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.func import functional_call, grad_and_value, stack_module_state, vmap

import ae_core.training.engine
import ae_torch
from ae_core.files.weights import is_state
from ae_core.noise import key
from ae_core.system.environment import usable_cores
from ae_torch.engine import ENGINE, NOISE_NUMBERS, Inference, Trainer
from ae_torch.execution.variants import VARIANTS
from ae_torch.noise import draw
from ae_torch.optim import make_optimizer
from benchmarks.race.sides import Runner
from benchmarks.race.sides.engine import Inferring, Training
from benchmarks.race.sides.peer import check
from benchmarks.race.workloads import Material, Workload, material


class Whole(nn.Module):
    """A model whose forward pass is its loss, for `functional_call`, which calls nothing else."""

    def __init__(self, model: ae_torch.Autoencoder) -> None:
        super().__init__()
        self.model = model

    def forward(
        self, x: Float[Tensor, "B H W C"], noise: dict[str, Tensor], coefficients: dict[str, Tensor]
    ) -> Float[Tensor, ""]:
        """Return the loss."""
        return self.model.loss(x, noise, coefficients).total


class Many:
    """Many models of one spec at once: gradients mapped over stacked parameters, one optimiser over the stack.

    All have the same noise.

    Raises:
        SpecError: the model has state that a step would change in place, or its gradients are clipped.
    """

    def __init__(self, workload: Workload, arrays: Material, compiled: bool) -> None:
        self.spec, self.steps = workload.spec, arrays.steps
        state = sorted(name for name in arrays.tensors[0] if is_state(name))
        check(not state, "state", ", ".join(state), "none where gradients are mapped over models")
        clip_norm = self.spec.training.clip_norm
        check(clip_norm is None, "training.clip_norm", clip_norm, "null where gradients are mapped over models")
        models = [ae_torch.from_tensors(ae_torch.Autoencoder(self.spec), start) for start in arrays.tensors]
        stacked, self.buffers = stack_module_state([Whole(model).train() for model in models])
        parameters = {name: nn.Parameter(values.detach()) for name, values in stacked.items()}
        self.optimizer = make_optimizer(self.spec.training.optimizer, parameters.values())
        self.parameters: dict[str, Tensor] = {**parameters}
        self.images = torch.from_numpy(arrays.images[arrays.steps.indices])
        rows = {name: torch.from_numpy(v.astype(np.float32)) for name, v in arrays.steps.coefficients.items()}
        self.coefficients = [{name: values[row] for name, values in rows.items()} for row in range(len(self.images))]
        self.rates = arrays.steps.learning_rates
        skeleton = Whole(ae_torch.Autoencoder(self.spec)).train().to("meta")

        def loss(parameters: dict[str, Tensor], buffers: dict[str, Tensor], *inputs: Any) -> Tensor:
            return functional_call(skeleton, (parameters, buffers), inputs)

        gradients = vmap(grad_and_value(loss), in_dims=(0, 0, None, None, None))
        self.gradients = torch.compile(gradients) if compiled else gradients

    def take(self, steps: int, first: int = 0) -> Float[np.ndarray, "K M"]:
        """Return the loss of each step and model."""
        losses = []
        rows = np.arange(first, first + steps) % len(self.images)
        for row, noise in zip(rows, self._noise(rows), strict=True):
            inputs = self.images[row], noise, self.coefficients[row]
            with torch.no_grad():
                gradients, values = self.gradients(self.parameters, self.buffers, *inputs)
            for name, parameter in self.parameters.items():
                parameter.grad = gradients[name]
            for group in self.optimizer.param_groups:
                group["lr"] = float(self.rates[row])
            self.optimizer.step()
            losses.append(values)
        return torch.stack(losses).numpy()

    def _noise(self, rows: np.ndarray) -> Iterator[dict[str, Tensor]]:
        """Yield the noise of steps by site, which is made for several at once, as the engine does."""
        sites, size = self.spec.noise_sites, self.images.shape[1]
        at_once = max(1, NOISE_NUMBERS // max((size * site.size for site in sites.values()), default=1))
        for part in (rows[i : i + at_once] for i in range(0, len(rows), at_once)):
            numbers = torch.from_numpy(self.steps.numbers[part])
            made = {name: draw(site, key(self.steps.seed, name), numbers, size) for name, site in sites.items()}
            for i in range(len(part)):
                yield {name: values[i] for name, values in made.items()}

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
