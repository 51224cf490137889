"""Corruptions: what is done to the images that the encoder sees."""

from functools import singledispatch

from ae_core.spec import Corruption, missing
from parity_tests.oracle.layer import Layer

NAME = "corruption"
"""Of the layer, which gives what goes into the encoder.

It takes the noise of the site of this name, as ``noise`` among its parameters.
"""


@singledispatch
def layer_of_corruption(corruption: Corruption) -> Layer:
    """Return the layer from clean images to corrupted ones.

    Raises:
        MissingError: none is registered for this kind.
    """
    raise missing("parity_tests", "layer_of_corruption", corruption)
