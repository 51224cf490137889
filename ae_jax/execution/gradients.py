"""The gradient of a batch's loss: at once, or summed over parts that fit a cache and over the devices of a mesh."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from ae_jax.model.autoencoder import Autoencoder, Loss, Variables
from ae_jax.model.layers import SampleWeight

Images = Float[Array, "B H W C"]
Noise = Float[Array, "B L"]

AXIS = "batch"
"""Name of the mesh axis over which a batch is divided."""


Gradients = Callable[
    [Autoencoder, Variables, Images, Noise, SampleWeight | None, Float[Array, ""] | None], tuple[Any, Loss]
]
"""From model, variables, images, noise, weight and total to the gradient by the parameters, and the loss."""


def whole_batch(
    model: Autoencoder,
    variables: Variables,
    images: Images,
    noise: Noise,
    weight: SampleWeight | None,
    total: Float[Array, ""] | None,
) -> tuple[Any, Loss]:
    """Return the gradient of a batch's loss at once; for ``weight`` and ``total`` see `Autoencoder.loss`."""

    def loss(params: dict[str, Any]) -> tuple[Float[Array, ""], Loss]:
        given = {"params": params, "batch_stats": variables["batch_stats"]}
        result = model.loss(given, images, noise, weight, total=total)
        return result.total, result

    return jax.grad(loss, has_aux=True)(variables["params"])


def divided(parts: int, on_mesh: bool) -> Gradients:
    """Return a function that computes what `whole_batch` does, as a sum over parts of the batch.

    The mean over the batch is Σ w·l / Σ w. A part's share of it has the whole batch's Σ w below: the shares add up,
    and so do their gradients. That holds only where samples are independent; see `Spec.couples_samples`.

    Args:
        parts: number of equal parts that follow each other; it divides the batch of each device.
        on_mesh: whether the batch is divided over the devices of the axis `AXIS` too; ``total`` then has to be given,
            since a device knows the weights of its own share only.
    """

    def everywhere(tree: Any) -> Any:
        return lax.psum(tree, AXIS) if on_mesh else tree

    def gradients(
        model: Autoencoder,
        variables: Variables,
        images: Images,
        noise: Noise,
        weight: SampleWeight | None,
        total: Float[Array, ""] | None,
    ) -> tuple[Any, Loss]:
        weight = jnp.ones(len(images), images.dtype) if weight is None else weight
        total = weight.sum() if total is None else total
        rows = [array.reshape(parts, len(array) // parts, *array.shape[1:]) for array in (images, noise, weight)]

        def share(number: Any) -> tuple[Any, Loss]:
            part, eps, share_weight = (array[number] for array in rows)
            return whole_batch(model, variables, part, eps, share_weight, total)

        if parts == 1:
            return everywhere(share(0))
        # from zeros, not from the first share: the compiled program holds the model once
        zeros = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), jax.eval_shape(share, 0))
        return everywhere(lax.fori_loop(0, parts, lambda i, sums: jax.tree.map(jnp.add, sums, share(i)), zeros))

    return gradients
