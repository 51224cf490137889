"""Our JAX twin, through its public engine."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P
from jaxtyping import Array, Float

import ae_core.training.engine
import ae_jax
from ae_core.noise import key
from ae_jax.engine import ENGINE, Inference, Trainer
from ae_jax.execution.compiler import compiler_options
from ae_jax.execution.cpu import configure_cpu
from ae_jax.execution.dispatch import mesh_of, one_at_a_time, replicated
from ae_jax.execution.gradients import AXIS
from ae_jax.execution.plan import Plan
from ae_jax.noise import draw
from benchmarks.race.sides import Runner
from benchmarks.race.sides.engine import Inferring, Training
from benchmarks.race.workloads import Material, Workload, material

PLANS: dict[str, Plan | None] = {
    "default": None,
    "one device": Plan(devices=1),
    "whole batch": Plan(devices=1, micro_batch=0),
    "plain convolutions": Plan(plain_convolutions=True),
    "single steps": None,
}
"""How each variant of the grid divides its batches. A micro-batch of 0 stands for the whole batch."""


class Stepping(Training):
    """Training steps, and the memory of their compiled program."""

    def temporary_bytes(self) -> int:
        """Return how many bytes the compiled steps need on each device in addition to their inputs and outputs."""
        assert isinstance(self.trainer, Trainer)
        program = self.trainer.compiled(self.steps.part(0, min(self.most, len(self.steps.sizes))))
        return int(program.memory_analysis().temp_size_in_bytes)


Data = dict[str, Any]
"""What steps need, a row each, by the names that a batch has for it; and their numbers."""


class Many:
    """Many models of one spec in one compiled program, in one of two orders.

    ``vmap``: each step of all models at once. ``in turn``: each device has its share of the models and takes all steps
    of a dispatch with one model before it goes on to the next, so that a model's state stays in the cache. The models
    are independent of each other, so the order does not change their numbers. All have the same noise.
    """

    def __init__(self, workload: Workload, arrays: Material, variant: str) -> None:
        spec, inputs = workload.spec, arrays.steps
        training = ae_jax.make_training(ae_jax.build(spec))
        states = [training.init(ae_jax.from_tensors(start, "float32")) for start in arrays.tensors]
        self.state = jax.tree.map(lambda *leaves: jnp.stack(leaves), *states)
        self.single, self.count = variant.endswith("single steps"), len(arrays.steps.sizes)
        rows = {"images": arrays.images[inputs.indices], "learning_rate": inputs.learning_rates.astype(np.float32)}
        coefficients = {name: values.astype(np.float32) for name, values in inputs.coefficients.items()}
        numbers = inputs.numbers.astype(np.uint32)
        self.data = jax.tree.map(jnp.asarray, {**rows, "coefficients": coefficients, "numbers": numbers})
        keys = {name: key(inputs.seed, name) for name in spec.noise_sites}

        def batch(data: Data, i: Array) -> ae_jax.Batch:
            row = jax.tree.map(lambda array: array[i % self.count], data)
            number = row.pop("numbers")
            noise = {name: draw(site, keys[name], number, workload.batch) for name, site in spec.noise_sites.items()}
            return ae_jax.Batch(noise=noise, **row)

        def steps(
            step: Callable[..., Any], states: ae_jax.State, data: Data, first: Array, count: Array
        ) -> tuple[ae_jax.State, Array]:
            def body(i: Array, carry: tuple[ae_jax.State, Array]) -> tuple[ae_jax.State, Array]:
                states, losses = carry
                states, terms = step(states, batch(data, first + i))
                return states, losses.at[i].set(terms["loss"])

            losses = jnp.zeros((self.count, *states.step.shape), jnp.float32)
            return lax.fori_loop(0, count, body, (states, losses))

        def at_once(states: ae_jax.State, *inputs: Any) -> tuple[ae_jax.State, Array]:
            return steps(jax.vmap(training.step, in_axes=(0, None)), states, *inputs)

        def in_turn(states: ae_jax.State, *inputs: Any) -> tuple[ae_jax.State, Array]:
            states, losses = lax.map(lambda state: steps(training.step, state, *inputs), states)
            return states, losses.T

        run = at_once
        if variant == "in turn":
            devices = next(n for n in range(jax.local_device_count(), 0, -1) if workload.models % n == 0)
            mesh, shares = mesh_of(devices), P(AXIS)
            ends = (shares, P(None, AXIS))
            run = jax.shard_map(in_turn, mesh=mesh, in_specs=(shares, P(), P(), P()), out_specs=ends, check_vma=False)
            self.state = jax.device_put(self.state, NamedSharding(mesh, shares))
            self.data = jax.device_put(self.data, replicated(devices))
        self.run = jax.jit(run, donate_argnums=0, compiler_options=compiler_options())

    def take(self, steps: int, first: int = 0) -> Float[np.ndarray, "K M"]:
        """Return the loss of each step and model."""
        losses = []
        while steps:
            count = min(steps, 1 if self.single else self.count)
            with one_at_a_time:
                self.state, values = self.run(self.state, self.data, first, count)
                losses.append(np.asarray(jax.block_until_ready(values))[:count])
            first, steps = first + count, steps - count
        return np.concatenate(losses)

    def settle(self) -> None:
        """Wait for the weights."""
        jax.block_until_ready(self.state)


def prepare() -> None:
    """Prepare the CPU as the command line does."""
    configure_cpu()


def trainer_of(workload: Workload, variant: str) -> Callable[..., ae_core.training.engine.Trainer]:
    """Return a function that begins a training in this variant: ``(spec, tensors, images) -> Trainer``."""
    plan = PLANS[variant]
    if plan is not None and plan.micro_batch == 0:
        plan = replace(plan, micro_batch=workload.batch)
    return partial(Trainer, plan=plan)


def shapes(workload: Workload) -> dict[str, tuple[int, ...]]:
    """Return names and shapes of the tensors of the workload's model."""
    return ENGINE.shapes(workload.spec)


def open_runner(workload: Workload, variant: str) -> Runner:
    """Return the runner of a variant."""
    arrays = material(workload, shapes(workload))
    if workload.phase == "many":
        return Many(workload, arrays, variant)
    if workload.phase == "train":
        trained = trainer_of(workload, variant)(workload.spec, arrays.tensors[0], arrays.images)
        assert isinstance(trained, Trainer)
        if variant == "single steps":
            trained.chunk = trained.capacity = 1  # a program of one step, which is not handed the inputs of many
        return Stepping(trained, arrays, lambda trainer: jax.block_until_ready(trainer.state))
    return Inferring(Inference(workload.spec, arrays.tensors[0]), workload, arrays)
