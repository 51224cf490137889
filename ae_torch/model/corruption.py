"""Corruptions: what is done to the images that the encoder sees."""

from functools import singledispatch

from jaxtyping import Float
from torch import Tensor

from ae_core.spec import Corruption, missing


@singledispatch
def corrupt(
    corruption: Corruption, x: Float[Tensor, "B H W C"], noise: Float[Tensor, "B H W C"]
) -> Float[Tensor, "B H W C"]:
    """Return corrupted images; ``noise`` is that of the site ``corruption``.

    Raises:
        MissingError: nothing is registered for this kind.
    """
    raise missing("ae_torch", "corrupt", corruption)
