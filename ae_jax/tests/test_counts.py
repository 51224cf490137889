"""Products counted in the traced program, against counts by hand: of every preset, and of models unlike them."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from jax import lax

from ae_core.spec import SGD, Training
from ae_core.spec.presets import preset
from ae_jax.execution.counts import Product, count, products


def linear(inputs, outputs):
    return inputs * outputs, inputs * outputs, outputs


def conv(side, inputs, outputs, stride=1):
    """Kernels of side 3; ``side`` is that of the smaller of both images, and a transposed one's grows by ``stride``."""
    return 9 * inputs * outputs, 9 * inputs * outputs * side**2, outputs * (side * stride) ** 2


FOSTER = (
    [conv(16, 1, 32), conv(8, 32, 64), conv(4, 64, 128), linear(2048, 2)],
    [linear(2, 2048), conv(4, 128, 128, 2), conv(8, 128, 64, 2), conv(16, 64, 32, 2), conv(32, 32, 1)],
)
BY_HAND = {
    "foster-ae": FOSTER,
    "foster-vae": ([*FOSTER[0], linear(2048, 2)], FOSTER[1]),
    "dense-mnist": ([linear(784, 128), linear(128, 32)], [linear(32, 128), linear(128, 784)]),
    "dense-digits": (
        [linear(64, 128), linear(128, 64), linear(64, 2)],
        [linear(2, 64), linear(64, 128), linear(128, 64)],
    ),
    "wardrobe": (
        [linear(1024, 256), linear(256, 128), linear(128, 2), linear(128, 2)],
        [linear(2, 128), linear(128, 256), linear(256, 1024)],
    ),
}


@pytest.mark.parametrize("name", BY_HAND)
def test_presets_by_hand(name):
    found = count(preset(name))
    assert tuple([product[:3] for product in half] for half in (found.encode, found.decode)) == BY_HAND[name]
    # the first layer's input has no gradient
    assert [product.gradients for product in found.products] == [1] + [2] * (len(found.products) - 1)
    assert found.code == preset(name).bottleneck.latent


@pytest.mark.parametrize("padding", ["same", "torch"])
def test_padding_changes_nothing(padding):
    spec = preset("foster-ae")
    assert count(replace(spec, backbone=replace(spec.backbone, padding=padding))) == count(spec)


def test_a_spec_is_traced_once_however_it_is_trained():
    spec = preset("dense-digits")
    found = count(spec)
    for training in (Training(SGD(), epochs=7), Training(precision="float64")):
        assert count(replace(spec, training=training)) is found


def found_in(function, params, x, **more):
    variables = {"params": params, **more}
    return products(jax.make_jaxpr(function)(variables, x), variables, x)


def found_in_module(module, *shape):
    x = jax.ShapeDtypeStruct((1, *shape), np.float32)
    variables = jax.eval_shape(module.init, jax.random.key(0), x)
    return found_in(module.apply, variables.pop("params"), x, **variables)


class Residual(nn.Module):
    """Two convolutions with a skip over them, and a strided one whose skip is a convolution of side 1."""

    @nn.compact
    def __call__(self, x):
        y = nn.relu(nn.BatchNorm(use_running_average=True)(nn.Conv(4, (3, 3))(x)))
        x = nn.relu(x + nn.Conv(4, (3, 3))(y))
        return nn.Conv(6, (3, 3), 2)(x) + nn.Conv(6, (1, 1), 2)(x)


def test_residual_blocks():
    assert found_in_module(Residual(), 8, 8, 4) == (
        Product(9 * 16, 9 * 16 * 64, 4 * 64, 1),
        Product(9 * 16, 9 * 16 * 64, 4 * 64, 2),
        Product(9 * 24, 9 * 24 * 16, 6 * 16, 2),
        Product(24, 24 * 16, 6 * 16, 2),
    )


class Attention(nn.Module):
    """Two heads of width 3 over 5 tokens of width 4."""

    @nn.compact
    def __call__(self, x):
        query, key, value = (nn.DenseGeneral((2, 3), use_bias=False)(x) for _ in range(3))
        weights = nn.softmax(jnp.einsum("bqhd,bkhd->bhqk", query, key))
        mixed = jnp.einsum("bhqk,bkhd->bqhd", weights, value)
        return nn.DenseGeneral(4, axis=(-2, -1))(mixed)


def test_attention_multiplies_activations():
    projection = Product(4 * 6, 5 * 4 * 6, 5 * 6, 1)
    scores, mixed = Product(0, 2 * 5 * 5 * 3, 2 * 5 * 5, 2), Product(0, 2 * 5 * 5 * 3, 5 * 6, 2)
    assert found_in_module(Attention(), 5, 4) == (*[projection] * 3, scores, mixed, Product(24, 5 * 24, 5 * 4, 2))


def test_convolutions_of_all_kinds():
    """Grouped, dilated, of one axis, not square; and stretched on one axis while it shrinks on the other."""

    def kernel_of(shape, groups=1, **options):
        def function(variables, x):
            axes = ("NHWC", "HWIO", "NHWC") if x.ndim == 4 else ("NHC", "HIO", "NHC")
            options.setdefault("window_strides", (1,) * (x.ndim - 2))
            options.setdefault("padding", "SAME")
            kernel = variables["params"]
            return lax.conv_general_dilated(x, kernel, feature_group_count=groups, dimension_numbers=axes, **options)

        return function, jnp.zeros(shape)

    x = jnp.zeros((1, 8, 6, 4))
    for (function, kernel), image, expected in (
        (kernel_of((3, 3, 1, 4), groups=4), x, Product(36, 36 * 48, 4 * 48, 1)),
        (kernel_of((3, 2, 2, 6), groups=2), x, Product(72, 72 * 48, 6 * 48, 1)),
        (kernel_of((3, 3, 4, 5), rhs_dilation=(2, 2)), x, Product(180, 180 * 48, 5 * 48, 1)),
        (kernel_of((8, 6, 4, 5), padding="VALID"), x, Product(960, 960, 5, 1)),
        (kernel_of((5, 4, 2), window_strides=(4,)), x[:, :, 0], Product(40, 40 * 2, 2 * 2, 1)),
        (
            # 8 × 6 becomes 4 × 12
            kernel_of((2, 2, 4, 1), window_strides=(2, 1), lhs_dilation=(1, 2), padding=((0, 0), (1, 1))),
            x,
            Product(16, 16 * 4 * 6, 4 * 12, 1),
        ),
    ):
        assert found_in(function, kernel, image) == (expected,)


def test_a_product_with_batch_axes():
    """As many matrices as there are positions: each weight is used once."""
    found = found_in(
        lambda v, x: jnp.einsum("bpi,pio->bpo", x, v["params"]), jnp.zeros((7, 3, 2)), jnp.zeros((1, 7, 3))
    )
    assert found == (Product(42, 42, 14, 1),)


SQUARE = Product(16, 16, 4, 1)
"""One of a vector by a matrix of side 4."""
X, W = jnp.zeros((1, 4)), jnp.zeros((4, 4))


@jax.custom_jvp
def _with_jvp(x):
    return x


_with_jvp.defjvp(lambda x, dx: (_with_jvp(*x), dx[0]))


@jax.custom_vjp
def _with_vjp(x, w):
    return x @ w


_with_vjp.defvjp(lambda x, w: (x @ w, None), lambda _, dy: (dy, None))


@pytest.mark.parametrize(
    "function",
    [
        lambda v, x: x @ v["params"],
        lambda v, x: jax.jit(jnp.matmul)(x, v["params"]),
        lambda v, x: jax.checkpoint(jnp.matmul)(x, v["params"]),
        lambda v, x: _with_jvp(x) @ v["params"],
        lambda v, x: _with_vjp(x, v["params"]),
        lambda v, x: x @ lax.optimization_barrier((v["params"].T, x))[0].T,
        lambda v, x: lax.map(lambda row: row @ v["params"], x),
        lambda v, x: lax.cond(True, lambda y: y @ v["params"], lambda y: y, x),
        lambda v, x: lax.while_loop(lambda y: y.sum() < 0, lambda y: y @ v["params"], x),
    ],
)
def test_inside_of_other_programs(function):
    (found,) = found_in(function, W, X)
    assert found[:3] == SQUARE[:3]


def test_a_loop_multiplies_at_every_turn():
    """By the same weights three times, or by others at each turn, whether they come as slices or are looked up."""
    same = Product(16, 3 * 16, 3 * 4, 2)
    others = same._replace(weights=3 * 16)
    w3 = jnp.zeros((3, 4, 4))
    assert found_in(lambda v, x: lax.fori_loop(0, 3, lambda _, y: y @ v["params"], x), W, X) == (same,)
    assert found_in(lambda v, x: lax.scan(lambda y, w: (y @ w, None), x, v["params"])[0], w3, X) == (others,)
    assert found_in(lambda v, x: lax.fori_loop(0, 3, lambda i, y: y @ v["params"][i], x), w3, X) == (others,)

    def nested(v, x):
        def outer(y, ws):
            return lax.scan(lambda z, w: (z @ w, None), lax.fori_loop(0, 5, lambda _, z: z @ ws[0], y), ws)[0], None

        return lax.scan(outer, x, v["params"])[0]

    first, second = found_in(nested, jnp.zeros((2, 3, 4, 4)), X)
    assert first == Product(2 * 16, 2 * 5 * 16, 2 * 5 * 4, 2)
    assert second == Product(6 * 16, 6 * 16, 6 * 4, 2)


def test_what_does_not_depend_on_the_image_is_left_out():
    """Weights that are a product themselves are worked out once for a batch; their shape is what the image meets."""
    params = {"a": jnp.zeros((4, 1)), "b": jnp.zeros((1, 4))}
    (found,) = found_in(lambda v, x: x @ (v["params"]["a"] @ v["params"]["b"]), params, X)
    assert found == SQUARE


def test_constants_are_no_weights():
    assert found_in(lambda v, x: x @ jnp.eye(4), {}, X) == (Product(0, 16, 4, 0),)
    assert found_in(lambda v, x: x @ v["state"], {}, X, state=W) == (Product(0, 16, 4, 0),)


def test_of_two_branches_the_longer_counts():
    def function(v, x):
        return lax.cond(x.sum() > 0, lambda y: y @ v["params"], lambda y: y @ v["params"] @ v["params"], x)

    assert found_in(function, W, X) == (SQUARE, SQUARE._replace(gradients=2))
