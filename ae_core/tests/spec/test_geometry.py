"""Pads and crops, against brute force: a convolution over one axis, written out as a matrix."""

import numpy as np
import pytest

from ae_core.spec import ConvBackbone
from ae_core.spec.geometry import crops, pads

_CASES = [
    (kernel, stride, padding)
    for kernel in range(1, 7)
    for stride in range(1, 5)
    for padding in ("same", "torch")
    if padding == "same" or kernel % 2
]
_SIZES = (1, 2, 3, 5)
"""Sizes after the convolution."""


def _convolution(n, kernel, stride, before, after):
    """Return the matrix of a convolution of n pixels with the kernel 1, 2, 3, …"""
    outputs = (n + before + after - kernel) // stride + 1
    matrix = np.zeros((outputs, n))
    for p in range(outputs):
        for t in range(kernel):
            if 0 <= p * stride + t - before < n:
                matrix[p, p * stride + t - before] = 1 + t
    return matrix


def _transposed(n, kernel, stride, before, after):
    """Return the matrix of a transposed convolution of n pixels: the full output, cut or grown at both ends."""
    full = np.zeros(((n - 1) * stride + kernel, n))
    for p in range(n):
        full[p * stride : p * stride + kernel, p] = np.arange(1, kernel + 1)
    grown = np.pad(full, ((max(-before, 0), max(-after, 0)), (0, 0)))
    return grown[max(before, 0) : len(grown) - max(after, 0)]


@pytest.mark.parametrize("small", _SIZES)
@pytest.mark.parametrize(("kernel", "stride", "padding"), _CASES)
def test_a_stride_divides_and_multiplies_the_size(kernel, stride, padding, small):
    down = _convolution(small * stride, kernel, stride, *pads(kernel, stride, padding))
    up = _transposed(small, kernel, stride, *crops(kernel, stride, padding))
    assert down.shape == (small, small * stride)
    assert up.shape == (small * stride, small)
    np.testing.assert_array_equal(up, down.T)


@pytest.mark.parametrize("small", _SIZES)
@pytest.mark.parametrize(("kernel", "stride"), [(k, s) for k, s, padding in _CASES if padding == "same"])
def test_same_is_tensorflows_rule(kernel, stride, small):
    # Source: TensorFlow's guide, "Padding": the output has ⌈n / stride⌉ pixels, and what that needs is added in all,
    # the smaller half first.
    n = small * stride
    total = max((-(-n // stride) - 1) * stride + kernel - n, 0)
    assert pads(kernel, stride, "same") == (total // 2, total - total // 2)


@pytest.mark.parametrize(("kernel", "stride"), [(k, s) for k, s, padding in _CASES if padding == "torch"])
def test_torch_is_symmetric_with_output_padding(kernel, stride):
    padding = (kernel - 1) // 2
    assert pads(kernel, stride, "torch") == (padding, padding)
    # nn.ConvTranspose2d: n → (n − 1)·stride − 2·padding + kernel + output_padding, and output_padding < stride
    output_padding = stride - kernel + 2 * padding
    assert 0 <= output_padding < max(stride, 2)
    assert crops(kernel, stride, "torch") == (padding, padding - output_padding)


@pytest.mark.parametrize(
    ("channels", "strides", "shape", "expected"),
    [
        ((32, 64, 128), (2, 2, 2), (32, 32, 1), (4, 4, 128)),
        ((4, 8), (3, 1), (15, 9, 3), (5, 3, 8)),
        ((4,), (1,), (7, 5, 1), (7, 5, 4)),
        ((4, 2), (2, 4), (8, 8, 1), (1, 1, 2)),
    ],
)
def test_feature_shape(channels, strides, shape, expected):
    assert ConvBackbone(channels, strides).feature_shape(shape) == expected
