"""The gradient of a batch's loss: at once, or summed over parts that fit a cache and over the devices of a mesh."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from ae_jax.model.autoencoder import Autoencoder, Loss, Variables
from ae_jax.model.bottleneck import Coefficients, Noise
from ae_jax.model.norm import Mask

AXIS = "batch"
"""Name of the mesh axis over which a batch is divided."""


class Inputs(NamedTuple):
    """What a loss is worked out from, beside the variables; see `Autoencoder.loss`."""

    images: Float[Array, "B H W C"]
    noise: Noise
    coefficients: Coefficients | None = None
    mask: Mask | None = None
    samples: Float[Array, ""] | None = None


Gradients = Callable[[Autoencoder, Variables, Inputs], tuple[Any, Loss]]
"""From model, variables and inputs to the gradient by the parameters, and the loss."""


def whole_batch(model: Autoencoder, variables: Variables, inputs: Inputs) -> tuple[Any, Loss]:
    """Return the gradient of a batch's loss at once."""
    images, noise, coefficients, mask, samples = inputs

    def loss(params: dict[str, Any]) -> tuple[Float[Array, ""], Loss]:
        result = model.loss({**variables, "params": params}, images, noise, coefficients, mask, samples=samples)
        return result.total, result

    return jax.grad(loss, has_aux=True)(variables["params"])


def divided(parts: int, on_mesh: bool) -> Gradients:
    """Return a function that computes what `whole_batch` does, as a sum over parts of the batch.

    The mean over the batch is Σ m·l / Σ m, with the mask m. A part's share of it has the whole batch's Σ m below: the
    shares add up, and so do their gradients. That holds only where samples are independent; see `Spec.couples_samples`.

    Args:
        parts: number of equal parts that follow each other; it divides the batch of each device.
        on_mesh: whether the batch is divided over the devices of the axis `AXIS` too; ``samples`` then has to be given,
            since a device knows the mask of its own share only.
    """

    def everywhere(tree: Any) -> Any:
        return lax.psum(tree, AXIS) if on_mesh else tree

    def gradients(model: Autoencoder, variables: Variables, inputs: Inputs) -> tuple[Any, Loss]:
        images, noise, coefficients, mask, samples = inputs
        mask = jnp.ones(len(images), images.dtype) if mask is None else mask
        samples = mask.sum() if samples is None else samples
        cut = lambda array: array.reshape(parts, len(array) // parts, *array.shape[1:])  # noqa: E731
        rows = jax.tree.map(cut, (images, dict(noise), mask))

        def share(number: Any) -> tuple[Any, Loss]:
            part, part_noise, part_mask = jax.tree.map(lambda array: array[number], rows)
            return whole_batch(model, variables, Inputs(part, part_noise, coefficients, part_mask, samples))

        if parts == 1:
            return everywhere(share(0))
        # from zeros, not from the first share: the compiled program holds the model once
        zeros = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), jax.eval_shape(share, 0))
        return everywhere(lax.fori_loop(0, parts, lambda i, sums: jax.tree.map(jnp.add, sums, share(i)), zeros))

    return gradients
