"""The analytic count against counts by hand."""

import pytest

from ae_core.spec import ConvBackbone, DenseBackbone, GaussianBottleneck, PlainBottleneck, Spec
from ae_core.spec.presets import PRESETS
from benchmarks.race.flops import bytes_moved, operations

DENSE = Spec((2, 3, 1), DenseBackbone((5,)), PlainBottleneck(2))
CONV = Spec((4, 4, 1), ConvBackbone((3,), (2,)), GaussianBottleneck(2))


def test_dense_by_hand():
    """6 → 5 → 2 → 5 → 6: 30 + 10 + 10 + 30 products forward; training thrice, without the first layer's input."""
    assert operations(DENSE, "encode") == operations(DENSE, "decode") == 2 * 40
    assert operations(DENSE, "reconstruct") == 2 * 80
    assert operations(DENSE, "train") == operations(DENSE, "many") == 2 * (3 * 80 - 30)


def test_conv_by_hand():
    """4×4×1 → 2×2×3 at stride 2, two heads of 12 → 2, 2 → 12, 2×2×3 → 4×4×3 transposed, 3×3 kernel to 4×4×1."""
    encoder = 4 * 9 * 1 * 3 + 2 * 12 * 2
    decoder = 2 * 12 + 4 * 9 * 3 * 3 + 16 * 9 * 3 * 1
    assert operations(CONV, "encode") == 2 * encoder
    assert operations(CONV, "decode") == 2 * decoder
    assert operations(CONV, "train") == 2 * (3 * (encoder + decoder) - 108)


@pytest.mark.parametrize("padding", ["same", "torch"])
def test_foster_ae(padding):
    """11.1 GFLOP a training step at batch 128; where the odd pixel of the padding goes changes nothing."""
    from dataclasses import replace

    spec = PRESETS["foster-ae"]
    spec = replace(spec, backbone=replace(spec.backbone, padding=padding))
    forward = 73_728 + 1_179_648 + 1_179_648 + 2 * 4_096 + 2_359_296 + 4_718_592 + 4_718_592 + 294_912
    assert operations(spec, "reconstruct") == 2 * forward
    assert operations(spec, "train") == 2 * (3 * forward - 73_728)
    assert round(128 * operations(spec, "train") / 1e9, 1) == 11.1


def test_bytes_by_hand():
    """Of each image: what goes in, and outputs written and read; in training also read again, and their gradients."""
    weights, outputs = 80, 5 + 2 + 5 + 6
    assert bytes_moved(DENSE, "reconstruct", 7) == 4 * (7 * (6 + 2 * outputs) + weights)
    assert bytes_moved(DENSE, "train", 7) == 4 * (7 * (6 + 5 * outputs) + 10 * weights)
    assert bytes_moved(DENSE, "decode", 7) == 4 * (7 * (2 + 2 * 11) + 40)
