"""Penalties: further terms of the loss."""

from functools import singledispatch
from typing import NamedTuple

from ae_core.spec import Penalty, missing
from parity_tests.oracle.layer import Layer


class Term(NamedTuple):
    """A penalty, without its weight."""

    source: str
    """What it looks at: ``output``, the decoder's, or a field of the code, such as ``z``."""
    layer: Layer
    """From that to one number, the mean over the batch; ``images`` are a constant among its parameters."""


@singledispatch
def layer_of_penalty(penalty: Penalty) -> Term:
    """Return what a penalty looks at, and the layer from there to its term.

    Raises:
        MissingError: none is registered for this kind.
    """
    raise missing("parity_tests", "layer_of_penalty", penalty)
