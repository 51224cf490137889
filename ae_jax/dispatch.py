"""Many training steps in one dispatch, compiled once."""

from collections.abc import Callable
from functools import lru_cache

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array

from ae_core.spec import Spec
from ae_jax.model import build
from ae_jax.training import Batch, State, make_training


@lru_cache(maxsize=64)
def compiled_steps(spec: Spec) -> Callable[..., tuple[State, dict[str, Array]]]:
    """Return the compiled training steps of a spec: ``(state, images, inputs, count) -> (state, terms)``.

    One compilation serves any number of steps up to the inputs' length, since the count is an argument, and a batch
    that is shorter, since its missing samples weigh 0. The state is donated.
    """
    training = make_training(build(spec))

    def run(state: State, images: Array, inputs: tuple[Array, ...], count: Array) -> tuple[State, dict[str, Array]]:
        def step(i: Array, state: State) -> tuple[State, dict[str, Array]]:
            indices, weight, noise, learning_rate = (array[i] for array in inputs)
            return training.step(state, Batch(images[indices], noise, learning_rate, weight))

        def body(i: Array, carry: tuple[State, dict[str, Array]]) -> tuple[State, dict[str, Array]]:
            state, logs = carry
            state, terms = step(i, state)
            return state, {name: logs[name].at[i].set(value) for name, value in terms.items()}

        _, shapes = jax.eval_shape(step, 0, state)
        logs = {name: jnp.zeros(len(inputs[0]), shape.dtype) for name, shape in shapes.items()}
        return lax.fori_loop(0, count, body, (state, logs))

    return jax.jit(run, donate_argnums=0)
