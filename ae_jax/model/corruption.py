"""Corruptions: what is done to the images that the encoder sees."""

from functools import singledispatch

from jaxtyping import Array, Float

from ae_core.spec import Corruption, missing


@singledispatch
def corrupt(
    corruption: Corruption, x: Float[Array, "B H W C"], noise: Float[Array, "B H W C"]
) -> Float[Array, "B H W C"]:
    """Return corrupted images; ``noise`` is that of the site ``corruption``.

    Raises:
        MissingError: nothing is registered for this kind.
    """
    raise missing("ae_jax", "corrupt", corruption)
