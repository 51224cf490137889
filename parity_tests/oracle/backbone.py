"""The doors of backbones: which layers an encoder and a decoder have, and how they are joined.

What stands behind them is in the file of each kind.
"""

from functools import singledispatch

from ae_core.spec import Activation, Backbone, Norm, Spec, missing
from parity_tests.oracle import activation as activations
from parity_tests.oracle.layer import Layer
from parity_tests.oracle.norm import layer_of_norm
from parity_tests.oracle.tree import Chain, Leaf, Node


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


def block(name: str, kind: str, layer: Layer, norm: Norm | None, activation: Activation, slope: float) -> Chain:
    """Return activation(norm(layer(x))), where the module ``name`` has modules ``kind`` and ``norm`` and ends with the
    activation."""
    middle = () if norm is None else (Leaf(f"{name}.norm", layer_of_norm(norm)),)
    end = Leaf(name, activations.Activation(activation, slope), output=name)
    return Chain((Leaf(f"{name}.{kind}", layer), *middle, end))
