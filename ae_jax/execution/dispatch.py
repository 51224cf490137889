"""Many training steps in one dispatch, compiled once, on one device or on a mesh of them."""

from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache
from threading import Lock
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P
from jaxtyping import Array

from ae_core.spec import Schedule, Spec, Training
from ae_jax.execution.compiler import compiler_options
from ae_jax.execution.gradients import AXIS, divided
from ae_jax.execution.plan import Division
from ae_jax.model.autoencoder import Variables, build
from ae_jax.training import Batch, State, make_training

one_at_a_time = Lock()
"""Held by whoever calls a function of this file, until all devices are done with it. Two programs at a time on several
devices of a CPU may each hold some of the threads that the other's all-reduce waits for, and neither ends. Who runs
programs of his own that add up over devices, in another thread meanwhile, has to hold it too."""


@lru_cache(maxsize=64)
def mesh_of(devices: int) -> Mesh:
    """Return the mesh of the first so many devices."""
    return Mesh(np.array(jax.local_devices()[:devices]), (AXIS,))


def replicated(devices: int) -> NamedSharding:
    """Return the sharding that gives every device of the mesh the whole array."""
    return NamedSharding(mesh_of(devices), P())


def program_of(spec: Spec, train: bool = True) -> Spec:
    """Return the spec that stands for all whose compiled functions are the same, so that each is compiled once.

    What comes with the arguments is left out of it: learning rates, weights, and the shapes of batches. Without
    ``train`` so is the optimiser.
    """
    training = spec.training
    optimizer = replace(training.optimizer, learning_rate=1.0)
    common = replace(training, optimizer=optimizer, schedule=Schedule(), batch_size=1, epochs=1)
    common = common if train else Training(batch_size=1, epochs=1, precision=training.precision)
    return replace(spec, initializer="glorot_uniform", training=common)


@lru_cache(maxsize=64)
def compiled_steps(
    spec: Spec, division: Division, plain_convolutions: bool = False
) -> Callable[..., tuple[State, dict[str, Array]]]:
    """Return the compiled training steps of a spec: ``(state, images, inputs, count) -> (state, terms)``.

    ``spec`` is a `program_of` the one to train, so that all of the same program share it.
    ``inputs`` are indices [K, R], weights [K, R], noise [K, R, L] and learning rates [K], with R rows as the division
    has them. One compilation serves any number of steps up to K, since the count is an argument, and a batch that is
    shorter, since its missing samples weigh 0. The state is donated. To be called, and waited for, with
    `one_at_a_time` held.
    """
    on_mesh = division.devices > 1
    model = build(spec, plain_convolutions)
    whole = division.devices * division.parts == 1
    training = make_training(model) if whole else make_training(model, divided(division.parts, on_mesh))

    def run(state: State, images: Array, inputs: tuple[Array, ...], count: Array) -> tuple[State, dict[str, Array]]:
        totals = inputs[1].sum(1)
        totals = lax.psum(totals, AXIS) if on_mesh else totals  # once a dispatch, not once a step

        def step(i: Array, state: State) -> tuple[State, dict[str, Array]]:
            indices, weight, noise, learning_rate = (array[i] for array in inputs)
            return training.step(state, Batch(images[indices], noise, learning_rate, weight, totals[i]))

        def body(i: Array, carry: tuple[State, dict[str, Array]]) -> tuple[State, dict[str, Array]]:
            state, logs = carry
            state, terms = step(i, state)
            return state, {name: logs[name].at[i].set(value) for name, value in terms.items()}

        _, shapes = jax.eval_shape(step, 0, state)
        logs = {name: jnp.zeros(len(inputs[0]), shape.dtype) for name, shape in shapes.items()}
        return lax.fori_loop(0, count, body, (state, logs))

    if on_mesh:
        divided_inputs = (P(None, AXIS), P(None, AXIS), P(None, AXIS), P())
        specs = (P(), P(), divided_inputs, P())
        run = jax.shard_map(run, mesh=mesh_of(division.devices), in_specs=specs, out_specs=P(), check_vma=False)
    return jax.jit(run, donate_argnums=0, compiler_options=compiler_options())


@lru_cache(maxsize=256)
def compiled_inference(spec: Spec, name: str, division: Division) -> Callable[..., Any]:
    """Return a compiled function of `Autoencoder` on a division's rows, as it is needed without a gradient.

    ``spec`` is a `program_of` the model's, so that all of the same program share it.

    ``encode``, ``posterior`` ([B, 2, L]: mean and logvar), ``decode`` and ``reconstruct`` take variables and rows;
    To be called, and waited for, with `one_at_a_time` held.
    ``evaluate`` takes weights of the rows too, and returns the weighted sum of each loss term on each device.
    """
    model = build(spec)

    def evaluate(variables: Variables, x: Array, weight: Array) -> dict[str, Array]:
        result = model.loss(variables, x, weight=weight, train=False, total=jnp.ones((), x.dtype))
        return {"loss": result.total[None], **{key: value[None] for key, value in result.terms.items()}}

    functions: dict[str, Callable[..., Any]] = {
        "encode": lambda variables, x: model.encode(variables, x).z,
        "posterior": lambda variables, x: jnp.stack(model.encode(variables, x)[:2], 1),
        "decode": model.decode,
        "reconstruct": model.reconstruct,
        "evaluate": evaluate,
    }

    def run(variables: Variables, *rows: Array) -> Any:
        if division.parts == 1:
            return functions[name](variables, *rows)
        stacked = [array.reshape(division.parts, -1, *array.shape[1:]) for array in rows]
        results = lax.map(lambda part: functions[name](variables, *part), stacked)
        if name == "evaluate":
            return jax.tree.map(lambda sums: sums.sum(0), results)
        return results.reshape(-1, *results.shape[2:])

    if division.devices > 1:
        specs = (P(), *(P(AXIS),) * (2 if name == "evaluate" else 1))
        run = jax.shard_map(run, mesh=mesh_of(division.devices), in_specs=specs, out_specs=P(AXIS), check_vma=False)
    return jax.jit(run, compiler_options=compiler_options())
