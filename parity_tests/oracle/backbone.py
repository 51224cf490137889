"""The doors of backbones: which layers an encoder and a decoder have, and how they are joined.

What stands behind them is in the file of each kind.
"""

from functools import singledispatch
from typing import NamedTuple

from ae_core.spec import Activation, Backbone, Norm, Spec, missing
from parity_tests.oracle import activation as activations
from parity_tests.oracle.corruption import Dropout
from parity_tests.oracle.layer import Layer
from parity_tests.oracle.norm import layer_of_norm
from parity_tests.oracle.tree import Chain, Leaf, Module, Node


@singledispatch
def layers_of_encoder(backbone: Backbone, spec: Spec) -> Node:
    """Return the encoder's layers, from images [B, H, W, C] to features.

    Raises:
        MissingError: none are registered for this kind.
    """
    raise missing("parity_tests", "layers_of_encoder", backbone)


@singledispatch
def layers_of_decoder(backbone: Backbone, spec: Spec) -> Node:
    """Return the decoder's layers, from codes to logits or means.

    Raises:
        MissingError: none are registered for this kind.
    """
    raise missing("parity_tests", "layers_of_decoder", backbone)


class Ends(NamedTuple):
    """What a block has after its layer."""

    norm: Norm | None
    activation: Activation
    negative_slope: float
    dropout: float


def block(name: str, kind: str, layer: Layer, ends: Ends) -> Node:
    """Return dropout(activation(norm(layer(x)))); the module ``name`` has modules ``kind``, ``norm`` and ``dropout``.

    Its activation is no module: where it comes last it has the block's own name.
    """
    norm = () if ends.norm is None else (Leaf(f"{name}.norm", layer_of_norm(ends.norm)),)
    activation = activations.Activation(ends.activation, ends.negative_slope)
    first = Leaf(f"{name}.{kind}", layer), *norm
    if not ends.dropout:
        return Chain((*first, Leaf(name, activation, output=name)))
    dropout = Leaf(f"{name}.dropout", Dropout(ends.dropout))
    return Module(name, Chain((*first, Leaf(f"{name}.activation", activation, output=f"{dropout.name}:in"), dropout)))
