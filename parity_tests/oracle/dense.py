"""The dense autoencoder: fully connected layers on flattened images."""

import math

from ae_core.spec import DenseBackbone, Spec
from parity_tests.oracle.backbone import Ends, block, layers_of_decoder, layers_of_encoder
from parity_tests.oracle.linear import Linear
from parity_tests.oracle.tree import Chain, Leaf, Node, Shape


@layers_of_encoder.register
def _encoder(backbone: DenseBackbone, spec: Spec) -> Chain:
    return Chain((Shape((math.prod(spec.input_shape),)), *_blocks("encoder", backbone)))


@layers_of_decoder.register
def _decoder(backbone: DenseBackbone, spec: Spec) -> Chain:
    return Chain((Shape((spec.latent_size,)), *_blocks("decoder", backbone), Leaf("decoder.output", Linear())))


def _blocks(part: str, backbone: DenseBackbone) -> list[Node]:
    ends = Ends(backbone.norm, backbone.activation, backbone.negative_slope, backbone.dropout)
    return [block(f"{part}.blocks.{i}", "linear", Linear(), ends) for i in range(len(backbone.hidden))]
