"""The convolutional autoencoder: strided convolutions down, a dense layer, and their transposes up again."""

from ae_core.spec import ConvBackbone, Spec
from parity_tests.oracle.backbone import Ends, block, layers_of_decoder, layers_of_encoder
from parity_tests.oracle.linear import Conv, ConvTranspose, Linear
from parity_tests.oracle.tree import Chain, Leaf, Shape


@layers_of_encoder.register
def _encoder(backbone: ConvBackbone, spec: Spec) -> Chain:
    ends = Ends(backbone.norm, backbone.activation, backbone.negative_slope, backbone.dropout)
    return Chain(
        tuple(
            block(f"encoder.blocks.{i}", "conv", Conv(wide, backbone.kernel, stride, backbone.padding), ends)
            for i, (wide, stride) in enumerate(_steps(backbone, spec))
        )
    )


@layers_of_decoder.register
def _decoder(backbone: ConvBackbone, spec: Spec) -> Chain:
    ends = Ends(backbone.norm, backbone.activation, backbone.negative_slope, backbone.dropout)
    height, width, _ = spec.input_shape
    blocks = [
        block(f"decoder.blocks.{i}", "conv", ConvTranspose(wide, backbone.kernel, stride, backbone.padding), ends)
        for i, (wide, stride) in enumerate(reversed(_steps(backbone, spec)))
    ]
    output = Conv((height, width), backbone.kernel, 1, backbone.padding)
    features = Shape(backbone.feature_shape(spec.input_shape))
    inner = Shape((spec.latent_size,)), Leaf("decoder.inner", Linear()), features
    return Chain((*inner, *blocks, Leaf("decoder.output", output)))


def _steps(backbone: ConvBackbone, spec: Spec) -> list[tuple[tuple[int, int], int]]:
    """Return height and width of the wide images, and the stride, of each convolution."""
    height, width, _ = spec.input_shape
    steps = []
    for stride in backbone.strides:
        steps.append(((height, width), stride))
        height, width = height // stride, width // stride
    return steps
