"""TopK: exactly k numbers of a code are not 0, ties go to the lower index in both twins, and flips need a reason."""

import numpy as np
import pytest

import ae_jax
import ae_torch
from ae_core.data import garments
from ae_core.spec import DenseBackbone, Spec
from ae_core.spec.bottleneck import TopKBottleneck
from ae_core.spec.presets import preset
from parity_tests.oracle.bottleneck import TopK

TWINS = {"jax": ae_jax, "torch": ae_torch}
_SPEC = Spec((1, 1, 6), DenseBackbone(()), TopKBottleneck(6, 2))


@pytest.fixture(params=TWINS)
def twin(request):
    return TWINS[request.param]


def test_exactly_k_numbers_are_active(twin):
    images = garments(600, (32, 32)).images
    spec = preset("topk")
    codes = twin.fit(spec, images, epochs=1).encode(images)
    assert ((codes != 0).sum(1) == spec.bottleneck.k).all()
    # which ones differs from image to image: more of them are in use than any one image has
    assert (codes != 0).any(0).sum() > spec.bottleneck.k


@pytest.mark.parametrize(
    ("features", "kept"),
    [
        ([3, 1, 2, 0, 0, 0], [0, 2]),
        ([1, 2, 2, 2, 0, 0], [1, 2]),  # of equal numbers the first
        ([1, 1, 1, 1, 1, 1], [0, 1]),
        ([-3, -1, -2, -4, -5, -6], [1, 2]),  # by value, not by size
        ([0, 5, 0, 0, -1, 0], [1, 0]),
    ],
)
def test_ties_go_to_the_lower_index(twin, features, kept):
    # the weights hand the pixels through
    tensors = {"bottleneck.code.weight": np.eye(6), "bottleneck.code.bias": np.zeros(6)}
    tensors |= {"decoder.output.weight": np.zeros((6, 6)), "decoder.output.bias": np.zeros(6)}
    model = twin.Fitted.engine.infer(_SPEC, {name: tensor.astype(np.float32) for name, tensor in tensors.items()})
    code = model.encode(np.array(features, np.float32).reshape(1, 1, 1, 6))[0]
    expected = np.zeros(6, np.float32)
    expected[kept] = np.array(features, np.float32)[kept]
    np.testing.assert_array_equal(code, expected)


def test_the_oracle_takes_a_twins_side_within_the_margin_alone():
    layer, x = TopK(1), np.array([[1.0, 1.0 + 1e-7, 0.5]])
    near = np.array([[1.0, 1.0 - 1e-7, 0.5]])
    np.testing.assert_array_equal(layer.forward({}, x), [[0, 1.0 + 1e-7, 0]])
    np.testing.assert_array_equal(layer.forward({"side": near}, x), [[1.0, 0, 0]])
    # a choice that lies further from the k-th largest than the passes from each other is not excused
    wrong = np.array([[1.0, 1.0 + 1e-7, 1.0 + 1e-6]]) - [[0, 0, 0.5]]
    np.testing.assert_array_equal(layer.forward({"side": wrong}, x), layer.forward({}, x))
    x = np.array([[1.0, 0.9, 0.5]])
    np.testing.assert_array_equal(layer.forward({"side": np.array([[1.0, 0.94, 0.5]])}, x), layer.forward({}, x))
    np.testing.assert_array_equal(layer.forward({"side": np.array([[0.97, 0.94, 0.5]])}, x), layer.forward({}, x))
