"""Many training steps in one dispatch, compiled once, on one device or on a mesh of them."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import lru_cache
from threading import Lock
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P
from jaxtyping import Array

from ae_core.spec import Constant, Spec, Training
from ae_jax.execution.compiler import compiler_options
from ae_jax.execution.gradients import AXIS, divided
from ae_jax.execution.plan import Division
from ae_jax.model.autoencoder import Variables, build
from ae_jax.noise import draw
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
    optimizer: Any = replace(cast(Any, training.optimizer), learning_rate=1.0)
    common = replace(training, optimizer=optimizer, schedule=Constant(), batch_size=1, epochs=1)
    common = common if train else Training(batch_size=1, epochs=1, precision=training.precision)
    return replace(spec, initializer="glorot_uniform", training=common)


class StepInputs(NamedTuple):
    """What K training steps of R rows each take, beside state and images."""

    indices: Any
    """Images of each step, [K, R]."""
    mask: Any
    """1 for each sample, 0 for those that only fill up a batch, [K, R]."""
    noise: Mapping[str, Any]
    """The caller's own, by site, [K, R, *shape]; what is not here is made in the program."""
    learning_rates: Any
    """[K]."""
    coefficients: Mapping[str, Any]
    """By name, [K] each."""
    numbers: Any
    """Number of each step in the training, [K]."""
    keys: Mapping[str, Any]
    """Keys of the noise that is made in the program, by site, [2] each."""


@lru_cache(maxsize=64)
def compiled_steps(
    spec: Spec, division: Division, plain_convolutions: bool = False
) -> Callable[..., tuple[State, dict[str, Array]]]:
    """Return the compiled training steps of a spec: ``(state, images, inputs, count) -> (state, terms)``.

    ``spec`` is a `program_of` the one to train, so that all of the same program share it. ``inputs`` are `StepInputs`,
    with as many rows as the division has. One compilation serves any number of steps up to K, since the count is an
    argument, and a batch that is shorter, since its missing samples are masked. The state is donated. To be called, and
    waited for, with `one_at_a_time` held.
    """
    on_mesh = division.devices > 1
    model = build(spec, plain_convolutions)
    whole = division.devices * division.parts == 1
    training = make_training(model) if whole else make_training(model, divided(division.parts, on_mesh))
    sites = spec.noise_sites
    rows = division.parts * division.size  # of this device's share

    def run(state: State, images: Array, inputs: StepInputs, count: Array) -> tuple[State, dict[str, Array]]:
        counts = inputs.mask.sum(1)
        counts = lax.psum(counts, AXIS) if on_mesh else counts  # once a dispatch, not once a step
        first = lax.axis_index(AXIS) * rows if on_mesh else 0

        def step(i: Array, state: State) -> tuple[State, dict[str, Array]]:
            noise = {name: values[i] for name, values in inputs.noise.items()}
            for name, key in inputs.keys.items():
                noise[name] = draw(sites[name], key, inputs.numbers[i], rows, first, spec.training.precision)
            coefficients = {name: values[i] for name, values in inputs.coefficients.items()}
            chosen = images[inputs.indices[i]]
            batch = Batch(chosen, inputs.learning_rates[i], noise, coefficients, inputs.mask[i], counts[i])
            return training.step(state, batch)

        def body(i: Array, carry: tuple[State, dict[str, Array]]) -> tuple[State, dict[str, Array]]:
            state, logs = carry
            state, terms = step(i, state)
            return state, {name: logs[name].at[i].set(value) for name, value in terms.items()}

        _, shapes = jax.eval_shape(step, 0, state)
        logs = {name: jnp.zeros(len(inputs.indices), shape.dtype) for name, shape in shapes.items()}
        return lax.fori_loop(0, count, body, (state, logs))

    if on_mesh:
        shares = P(None, AXIS)
        divided_inputs: Any = StepInputs(*(shares, shares, shares, P(), P(), P(), P()))  # type: ignore[arg-type]
        specs = (P(), P(), divided_inputs, P())
        run = jax.shard_map(run, mesh=mesh_of(division.devices), in_specs=specs, out_specs=P(), check_vma=False)
    return jax.jit(run, donate_argnums=0, compiler_options=compiler_options())


@lru_cache(maxsize=256)
def compiled_inference(spec: Spec, name: str, division: Division) -> Callable[..., Any]:
    """Return a compiled function of `Autoencoder` on a division's rows, as it is needed without a gradient.

    ``spec`` is a `program_of` the model's, so that all of the same program share it.

    - ``encode``, ``decode`` and ``reconstruct`` take variables and rows.
    - ``posterior`` does so too, and returns mean and logvar, [B, 2, *latent shape].
    - ``evaluate`` takes the rows' mask too, and returns the sum of each loss term over the rows of each device.

    To be called, and waited for, with `one_at_a_time` held.
    """
    model = build(spec)

    def evaluate(variables: Variables, x: Array, mask: Array) -> dict[str, Array]:
        result = model.loss(variables, x, mask=mask, train=False, samples=jnp.ones((), x.dtype))
        return {"loss": result.total[None], **{key: value[None] for key, value in result.terms.items()}}

    def posterior(variables: Variables, x: Array) -> Array:
        code: Any = model.encode(variables, x)
        return jnp.stack([code.mean, code.logvar], 1)

    functions: dict[str, Callable[..., Any]] = {
        "encode": lambda variables, x: model.encode(variables, x).z,
        "posterior": posterior,
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
