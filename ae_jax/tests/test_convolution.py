"""Convolutions and their gradients, written by hand here, against those that JAX derives; all in float64."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.test_util import check_grads

from ae_core.rng import generator, normal
from ae_core.spec import Training
from ae_core.spec.geometry import crops, pads
from ae_core.spec.presets import preset
from ae_jax import build
from ae_jax.model.convolution import convolution, plain_convolutions, transposed_convolution

_LAYOUT = ("NHWC", "HWIO", "NHWC")

_CASES = [
    (kernel, stride, padding)
    for kernel in range(1, 6)
    for stride in range(1, 4)
    for padding in ("same", "torch")
    if padding == "same" or kernel % 2
]


@pytest.fixture(autouse=True)
def _float64():
    with jax.enable_x64(True):
        yield


def _plain(x, kernel, stride, edges):
    return lax.conv_general_dilated(x, kernel, (stride, stride), (edges, edges), dimension_numbers=_LAYOUT)


def _draw(kernel, stride, small=(3, 2), channels=(3, 4)):
    """Return large images, small ones and a kernel; strides of 3 and 1 give odd sizes."""
    (height, width), (inputs, outputs) = small, channels
    x = normal((2, height * stride, width * stride, inputs), 0, "x")
    z = normal((2, height, width, outputs), 0, "z")
    return jnp.asarray(x), jnp.asarray(z), jnp.asarray(normal((kernel, kernel, inputs, outputs), 0, "kernel"))


def _compare(ours, theirs, *arguments):
    """Compare values and the derivatives by both arguments, at one random cotangent."""
    shape = jax.eval_shape(theirs, *arguments).shape
    dy = jnp.asarray(normal(shape, 0, "dy"))

    def run(function):
        y, pull = jax.vjp(function, *arguments)
        return y, *pull(dy)

    results = zip(*(jax.jit(run, static_argnums=0)(function) for function in (ours, theirs)), strict=True)
    for actual, expected in results:
        assert actual.dtype == jnp.float64
        assert actual.shape == expected.shape
        assert np.abs(expected).max() > 0.1
        np.testing.assert_allclose(actual, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("edges", [(0, 0), (2, 1)])
@pytest.mark.parametrize("size", [(7, 13), (14, 8), (9, 10)])
@pytest.mark.parametrize(("kernel", "stride"), [(3, 1), (2, 2), (3, 2), (4, 3)])
def test_sizes_that_the_stride_does_not_divide(kernel, stride, size, edges):
    x = jnp.asarray(normal((2, *size, 3), 0, "x"))
    w = jnp.asarray(normal((kernel, kernel, 3, 4), 0, "kernel"))
    _compare(lambda x, w: convolution(x, w, stride, edges), lambda x, w: _plain(x, w, stride, edges), x, w)


@pytest.mark.parametrize(
    ("kernel", "stride", "padding"), [(3, 2, "same"), (3, 2, "torch"), (2, 3, "same"), (5, 1, "same")]
)
def test_gradients_by_finite_differences(kernel, stride, padding):
    x, z, w = _draw(kernel, stride, (2, 1))
    edges, cut = pads(kernel, stride, padding), crops(kernel, stride, padding)
    ours = jax.jit(lambda x, w: convolution(x, w, stride, edges))
    check_grads(ours, (x, w), order=1, modes=["rev"])
    ours = jax.jit(lambda z, w: transposed_convolution(z, w, stride, cut))
    check_grads(ours, (z, w), order=1, modes=["rev"])


@pytest.mark.parametrize(("kernel", "stride", "padding"), _CASES[::5])
def test_other_backends_compute_the_same(monkeypatch, kernel, stride, padding):
    x, z, w = _draw(kernel, stride)
    edges, cut = pads(kernel, stride, padding), crops(kernel, stride, padding)
    here = convolution(x, w, stride, edges), transposed_convolution(z, w, stride, cut)
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    _compare(lambda x, w: convolution(x, w, stride, edges), lambda x, w: _plain(x, w, stride, edges), x, w)
    np.testing.assert_allclose(convolution(x, w, stride, edges), here[0], rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(transposed_convolution(z, w, stride, cut), here[1], rtol=1e-12, atol=1e-12)


def test_gradients_survive_jit_scan_and_vmap():
    x, _, w = _draw(3, 2)
    loss = lambda w: (convolution(x, w, 2, (0, 1)) ** 2).sum()  # noqa: E731
    expected = jax.grad(loss)(w)
    np.testing.assert_allclose(jax.jit(jax.grad(loss))(w), expected, rtol=1e-12)
    np.testing.assert_allclose(jax.vmap(jax.grad(loss))(jnp.stack([w, 2 * w]))[0], expected, rtol=1e-12)
    scanned = lax.scan(lambda carry, _: (carry, jax.grad(loss)(carry)), w, None, length=2)[1]
    np.testing.assert_allclose(scanned[1], expected, rtol=1e-12)


@pytest.mark.parametrize("transposed", [False, True])
def test_plain_convolutions_have_every_derivative(transposed):
    x, z, w = _draw(3, 2)
    call = transposed_convolution if transposed else convolution
    given, edges = (z, (0, 1)) if transposed else (x, (0, 1))
    loss = lambda given, w: (call(given, w, 2, edges) ** 3).sum()  # noqa: E731
    with pytest.raises(TypeError, match="forward-mode"):
        jax.jvp(loss, (given, w), (given, w))
    with plain_convolutions():
        check_grads(jax.jit(loss), (given, w), order=2)
    # reverse over reverse needs no plain path
    check_grads(jax.jit(jax.grad(loss, 1)), (given, w), order=1, modes=["rev"])


def test_a_model_is_plain_on_demand():
    spec = replace(preset("foster-ae"), input_shape=(8, 8, 1), training=Training(precision="float64"))
    x, v = jnp.asarray(generator(0, "x").random((2, 8, 8, 1))), jnp.asarray(normal((2, 8, 8, 1), 0, "v"))
    fast, plain = build(spec), build(spec, plain_convolutions=True)
    variables = fast.init()
    np.testing.assert_allclose(fast.reconstruct(variables, x), plain.reconstruct(variables, x), rtol=1e-12)
    run = lambda model: jax.jvp(lambda x: model.loss(variables, x).total, (x,), (v,))  # noqa: E731
    with pytest.raises(TypeError, match="forward-mode"):
        run(fast)
    slope = (jax.grad(lambda x: fast.loss(variables, x).total)(x) * v).sum()
    assert run(plain)[1] == pytest.approx(float(slope), rel=1e-10)
