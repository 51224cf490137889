"""The JAX side of a pair, as its user would run it: on JAX's default device, each pass or step one jitted program."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Shaped

from ae_jax.engine import ENGINE as ENGINE
from benchmarks.race.sides import Runner
from benchmarks.race.sides.pair import BETAS, EPS, LEARNING_RATE, TARGET, Setup, cast, set_up
from benchmarks.race.workloads import PairWorkload
from parity_tests.pair.tree import take_apart

Arrays = dict[str, Array]


class Model:
    """The function with its weights and inputs at one precision."""

    def __init__(self, setup: Setup, precision: str) -> None:
        self.setup, self.wide = setup, precision == "float64"
        with jax.enable_x64(self.wide):
            self.arrays = {name: jnp.asarray(array, precision) for name, array in setup.arrays.items()}
            self.inputs = tuple(jnp.asarray(cast(values, precision)) for values in setup.pair.inputs)

    def apply(self, arrays: Arrays, inputs: tuple[Array, ...]) -> tuple[Any, Arrays]:
        """Return the output, and the floats of the state where the function returns one."""
        result = self.setup.pair.jax_apply(self.setup.tree.filled(arrays), *inputs)
        if not self.setup.pair.returns_state:
            return result, {}
        output, state = result
        taken = take_apart(state)
        found = {}
        for name, place in taken.places.items():
            # of Flax's variables, the name of the collection is no part of a path
            found[name if name in arrays else name.partition(".")[2]] = taken.leaves[place]
        return output, found


class Forward:
    """Passes through the function; each is waited for."""

    def __init__(self, setup: Setup, precision: str = "float32") -> None:
        self.model = Model(setup, precision)
        self.run = jax.jit(lambda arrays, inputs: self.model.apply(arrays, inputs)[0])

    def take(self, steps: int, first: int = 0) -> Shaped[np.ndarray, " N"]:
        """Return all numbers of the outputs of the last pass, in the order of JAX's leaves."""
        output: Any = None
        with jax.enable_x64(self.model.wide):
            for _ in range(steps):
                output = jax.block_until_ready(self.run(self.model.arrays, self.model.inputs))
            return np.concatenate([np.asarray(leaf).reshape(-1) for leaf in jax.tree.leaves(output)])

    def settle(self) -> None:
        """Nothing is under way."""


class Training:
    """Training steps on the same inputs: loss, gradients and Adam in one program whose state is donated."""

    def __init__(self, setup: Setup, precision: str = "float32") -> None:
        self.model = model = Model(setup, precision)
        pair, optimizer = setup.pair, optax.adam(LEARNING_RATE, b1=BETAS[0], b2=BETAS[1], eps=EPS)
        trained = {name: array for name, array in model.arrays.items() if name in setup.trained}
        held = {name: array for name, array in model.arrays.items() if name not in setup.trained}

        def loss(trained: Arrays, held: Arrays, inputs: tuple[Array, ...]) -> tuple[Array, Arrays]:
            output, state = model.apply({**trained, **held}, inputs)
            moved = {name: state.get(name, array) for name, array in held.items()}
            if pair.jax_loss is not None:
                return pair.jax_loss(output, *inputs), moved
            leaves = [leaf for leaf in jax.tree.leaves(output) if jnp.issubdtype(leaf.dtype, jnp.floating)]
            return sum(((leaf - TARGET) ** 2).mean() for leaf in leaves) / 2, moved

        def step(state: tuple[Arrays, Arrays, Any], inputs: tuple[Array, ...]) -> tuple[Any, Array]:
            trained, held, memory = state
            (value, held), slopes = jax.value_and_grad(loss, has_aux=True)(trained, held, inputs)
            updates, memory = optimizer.update(slopes, memory, trained)
            return (optax.apply_updates(trained, updates), held, memory), value

        with jax.enable_x64(model.wide):
            self.state = trained, held, optimizer.init(trained)
        self.step = jax.jit(step, donate_argnums=0)

    def take(self, steps: int, first: int = 0) -> Float[np.ndarray, " K"]:
        """Return the loss of each step."""
        losses = []
        with jax.enable_x64(self.model.wide):
            for _ in range(steps):
                self.state, value = self.step(self.state, self.model.inputs)
                losses.append(value)
            return np.array(jax.device_get(losses))

    def settle(self) -> None:
        """Wait for the weights."""
        jax.block_until_ready(self.state)


def prepare() -> None:
    """Let products of float32 be in float32, on an accelerator too."""
    jax.config.update("jax_default_matmul_precision", "highest")


def open_runner(workload: PairWorkload, variant: str) -> Runner:
    """Return the runner of a pair's file."""
    setup = set_up(workload.file)
    return Training(setup) if workload.trains else Forward(setup)
