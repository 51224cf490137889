"""The oracle itself: against plain loops, quadrature and finite differences, and the whole of it against both twins."""

import itertools
import math
from dataclasses import dataclass, replace

import jax.numpy as jnp
import numpy as np
import pytest
import torch
from scipy import integrate, signal, stats

import ae_jax.model.norm
import ae_torch.model.norm
from ae_core.errors import MissingError
from ae_core.spec import Backbone
from ae_core.spec.geometry import crops, pads
from parity_tests import oracle
from parity_tests.cases import CASES, images_of
from parity_tests.gates.drift import check_formulas, check_layers
from parity_tests.oracle.activation import Activation
from parity_tests.oracle.bottleneck import GaussianCode, Sigmoid
from parity_tests.oracle.likelihood import Bernoulli, Gaussian
from parity_tests.oracle.linear import Conv, ConvTranspose, Linear
from parity_tests.oracle.norm import BatchNorm, GroupNorm, LayerNorm
from parity_tests.oracle.penalty import Absolute, RateDivergence
from parity_tests.oracle.tree import Chain, Flow, Fork, Leaf, Module, Replay, Residual, Shape, Tape, forward

CONV = [(k, s, p) for p in ("same", "torch") for k in (1, 2, 3, 4, 5) for s in (1, 2, 3) if p == "same" or k % 2]
ACTIVATIONS = ["relu", "leaky_relu", "silu", "gelu_erf", "gelu_tanh"]
NORMS = {
    "batch": (BatchNorm(1e-3, 0.1), (4, 3, 2, 6)),
    "batch of vectors": (BatchNorm(1e-3, 0.1), (4, 6)),
    "group": (GroupNorm(1e-3, 3), (4, 3, 2, 6)),
    "group of vectors": (GroupNorm(1e-3, 2), (4, 6)),
    "layer": (LayerNorm(1e-3), (4, 3, 2, 6)),
    "layer of vectors": (LayerNorm(1e-3), (4, 6)),
}
CLOSE = {"rtol": 1e-13, "atol": 1e-14}
"""Sums of fewer than a hundred terms of size 1: some √100·2⁻⁵³ ≈ 1e-15, and a hundred times that for condition."""


@pytest.mark.quick
@pytest.mark.parametrize(("k", "s", "padding"), CONV)
def test_convolution_is_a_loop(k, s, padding):
    """y[p] = Σ x[s·p + t − before]·w[t], for every index in a loop of its own."""
    rng = np.random.default_rng(1)
    x, w, b = rng.standard_normal((1, 6, 12, 2)), rng.standard_normal((3, 2, k, k)), rng.standard_normal(3)
    before, _ = pads(k, s, padding)
    y = np.zeros((1, 6 // s, 12 // s, 3)) + b
    for i, j, o, c, t, r in itertools.product(*map(range, (6 // s, 12 // s, 3, 2, k, k))):
        row, column = s * i + t - before, s * j + r - before
        if 0 <= row < 6 and 0 <= column < 12:
            y[0, i, j, o] += x[0, row, column, c] * w[o, c, t, r]
    np.testing.assert_allclose(Conv((6, 12), k, s, padding).forward({"weight": w, "bias": b}, x), y, **CLOSE)


@pytest.mark.quick
@pytest.mark.parametrize(("k", "s", "padding"), CONV)
def test_transposed_convolution_is_a_loop(k, s, padding):
    """Every pixel leaves a copy of the kernel, s pixels from its neighbour's; then the edges are cut off."""
    rng = np.random.default_rng(2)
    x, w = rng.standard_normal((1, 3, 4, 2)), rng.standard_normal((2, 3, k, k))
    before, _ = crops(k, s, padding)
    full = np.zeros((before + 20 + k, before + 20 + k, 3))
    for i, j, o, c, t, r in itertools.product(*map(range, (3, 4, 3, 2, k, k))):
        full[s * i + t, s * j + r, o] += x[0, i, j, c] * w[c, o, t, r]
    y = full[None, before : before + 3 * s, before : before + 4 * s]
    np.testing.assert_allclose(ConvTranspose((3 * s, 4 * s), k, s, padding).forward({"weight": w}, x), y, **CLOSE)


@pytest.mark.quick
@pytest.mark.parametrize("k", [1, 3, 5])
def test_convolution_is_scipy_correlation(k):
    rng = np.random.default_rng(3)
    x, w = rng.standard_normal((1, 7, 5, 1)), rng.standard_normal((1, 1, k, k))
    y = signal.correlate2d(x[0, :, :, 0], w[0, 0], mode="same")
    for padding in ("same", "torch"):
        np.testing.assert_allclose(Conv((7, 5), k, 1, padding).forward({"weight": w}, x)[0, :, :, 0], y, **CLOSE)


@pytest.mark.quick
@pytest.mark.parametrize("name", NORMS)
def test_norm_is_a_loop(name):
    layer, shape = NORMS[name]
    rng = np.random.default_rng(4)
    x, w, b = rng.standard_normal(shape), rng.standard_normal(6), rng.standard_normal(6)
    flat = x.reshape(4, -1, 6)
    y = np.zeros_like(flat)
    for i, p, c in itertools.product(range(4), range(flat.shape[1]), range(6)):
        if isinstance(layer, BatchNorm):
            group = flat[:, :, c]
        elif isinstance(layer, LayerNorm):
            group = flat[i, p]
        else:
            size = 6 // layer.groups
            group = flat[i, :, c // size * size : (c // size + 1) * size]
        y[i, p, c] = (flat[i, p, c] - group.mean()) / math.sqrt(group.var() + layer.eps) * w[c] + b[c]
    np.testing.assert_allclose(layer.forward({"weight": w, "bias": b}, x), y.reshape(shape), **CLOSE)


@pytest.mark.quick
def test_activations_are_their_definitions():
    x = np.linspace(-6, 6, 49)
    inner = math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)
    right = {
        "relu": np.maximum(x, 0),
        "leaky_relu": np.maximum(x, 0) + 0.2 * np.minimum(x, 0),
        "silu": x / (1 + np.exp(-x)),
        "gelu_erf": x * stats.norm.cdf(x),
        "gelu_tanh": x * (np.exp(inner) / (np.exp(inner) + np.exp(-inner))),  # ½·(1 + tanh)
    }
    for name in ACTIVATIONS:
        np.testing.assert_allclose(Activation(name, 0.2).forward({}, x), right[name], **CLOSE)


@pytest.mark.quick
def test_kink_has_the_left_slope():
    zero, one = np.array([0.0, -0.0]), np.ones(2)
    assert Activation("relu", 0.2).backward({}, zero, one)[0].tolist() == [0, 0]
    assert Activation("leaky_relu", 0.2).backward({}, zero, one)[0].tolist() == [0.2, 0.2]


@pytest.mark.quick
def test_sides_tell_the_slopes_at_a_kink_alone():
    x, side, one = np.array([1e-9, -1e-9, 2.0]), np.array([-1e-9, 1e-9, 2.0]), np.ones(3)
    assert Activation("relu", 0.2).backward({"side": side}, x, one)[0].tolist() == [0, 1, 1]
    assert Activation("leaky_relu", 0.2).backward({"side": side}, x, one)[0].tolist() == [0.2, 1, 1]
    smooth = Activation("silu", 0.2)
    assert (smooth.backward({"side": -x}, x, one)[0] == smooth.backward({}, x, one)[0]).all()


@pytest.mark.quick
@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_likelihoods_are_densities(reduction):
    rng = np.random.default_rng(5)
    x, output = rng.uniform(0, 1, (3, 2, 4, 1)), rng.uniform(-4, 4, (3, 2, 4, 1))
    reduce = np.mean if reduction == "mean" else np.sum
    p = 1 / (1 + np.exp(-output))
    cross_entropy = np.mean([reduce(part) for part in -x * np.log(p) - (1 - x) * np.log(1 - p)])
    np.testing.assert_allclose(Bernoulli(reduction).forward({"images": x}, output), [cross_entropy], **CLOSE)
    constant = 0.5 * math.log(2 * math.pi * 0.3)
    density = np.mean([reduce(part) for part in -stats.norm.logpdf(x, output, math.sqrt(0.3)) - constant])
    np.testing.assert_allclose(Gaussian(reduction, 0.3).forward({"images": x}, output), [density], **CLOSE)


@pytest.mark.quick
def test_kl_is_an_integral():
    """KL(q ‖ p) = ∫ q·log(q/p), by quadrature, one latent dimension after the other."""
    rng = np.random.default_rng(6)
    mean, logvar = rng.uniform(-1, 1, (2, 3)), rng.uniform(-1, 1, (2, 3))

    def divergence(m, v):
        q, p = stats.norm(m, math.exp(v / 2)), stats.norm()
        spread = 12 * math.exp(v / 2)  # beyond it q is below 1e-31
        return integrate.quad(lambda z: q.pdf(z) * (q.logpdf(z) - p.logpdf(z)), m - spread, m + spread, epsabs=1e-12)[0]

    right = np.mean(
        [sum(divergence(m, v) for m, v in zip(*row, strict=True)) for row in zip(mean, logvar, strict=True)]
    )
    y = GaussianCode().forward({"noise": np.zeros((2, 3))}, np.concatenate([mean, logvar], -1))
    np.testing.assert_allclose(y[:-1], mean.ravel(), rtol=0, atol=0)
    # epsabs of six integrals, over two images
    assert abs(y[-1] - right) <= 3e-12


GRADIENTS = {
    "linear": (Linear(), {"weight": (4, 5), "bias": (4,)}, (3, 5)),
    **{
        f"conv {k} {s} {p}": (Conv((6, 12), k, s, p), {"weight": (3, 2, k, k), "bias": (3,)}, (2, 6, 12, 2))
        for k, s, p in CONV
    },
    **{
        f"transposed {k} {s} {p}": (
            ConvTranspose((3 * s, 4 * s), k, s, p),
            {"weight": (2, 3, k, k), "bias": (3,)},
            (2, 3, 4, 2),
        )
        for k, s, p in CONV
    },
    **{f"{n} norm": (layer, {"weight": (6,), "bias": (6,)}, shape) for n, (layer, shape) in NORMS.items()},
    **{name: (Activation(name, 0.2), {}, (4, 5)) for name in ACTIVATIONS},
    "bernoulli": (Bernoulli("mean"), {"images": (2, 3, 4, 1)}, (2, 3, 4, 1)),
    "gaussian": (Gaussian("sum", 0.3), {"images": (2, 3, 4, 1)}, (2, 3, 4, 1)),
    "code": (GaussianCode(), {"noise": (3, 2)}, (3, 4)),
    "sigmoid": (Sigmoid(), {}, (3, 4)),
    "l1": (Absolute(), {}, (3, 4)),
    "divergence of rates": (RateDivergence(0.2), {}, (3, 4)),
}


@pytest.mark.quick
@pytest.mark.parametrize("name", GRADIENTS)
def test_gradient_is_a_difference_quotient(name):
    """Along three directions in the space of input and parameters.

    The central difference at step h is off by h²/6 of the third derivative, and by 2⁻⁵³/h of the value; at h = ε^⅓
    either is some ε^⅔ = 4e-11 of the sum's scale, with third derivatives of up to a few hundred for norms.
    """
    layer, shapes, shape = GRADIENTS[name]
    eps = np.finfo(np.float64).eps
    h = eps ** (1 / 3)
    for seed in range(3):
        rng = np.random.default_rng(seed)
        p = {key: rng.standard_normal(size) for key, size in shapes.items()}
        x = rng.standard_normal(shape)
        x += np.sign(x) * 0.01  # no step crosses a kink
        dy = rng.standard_normal(layer.forward(p, x).shape)
        by_input, gradients = layer.backward(p, x, dy)
        assert gradients.keys() == p.keys() - {"images", "noise"}
        v, dp = rng.standard_normal(shape), {key: rng.standard_normal(shapes[key]) for key in gradients}
        ends = [layer.forward(p | {key: p[key] + t * step for key, step in dp.items()}, x + t * v) for t in (h, -h)]
        quotient = (dy * (ends[0] - ends[1])).sum() / (2 * h)
        products = [by_input * v, *(gradients[key] * dp[key] for key in gradients)]
        scale = sum(np.abs(product).sum() for product in products) + np.abs(dy * ends[0]).sum()
        assert abs(sum(product.sum() for product in products) - quotient) <= 100 * eps ** (2 / 3) * scale


@pytest.mark.quick
def test_unit_of_an_inner_product():
    rng = np.random.default_rng(7)
    p, x, dy = {"weight": rng.standard_normal((4, 5))}, rng.standard_normal((3, 5)), rng.standard_normal((3, 4))
    units = Linear().units(p, x, dy, 2**-24)
    right = math.sqrt(5) * 2**-24 * np.einsum("bi,oi->bo", np.abs(x), np.abs(p["weight"]))
    np.testing.assert_allclose(units.output, right, **CLOSE)
    weight = math.sqrt(3) * 2**-24 * np.einsum("bo,bi->oi", np.abs(dy), np.abs(x))
    np.testing.assert_allclose(units.gradients["weight"], weight, **CLOSE)


@pytest.mark.quick
def test_padding_adds_no_term():
    """A 3×3 kernel over 2 channels has 18 terms within an image, 8 at its corner, and one more with a bias."""
    p = {"weight": np.ones((1, 2, 3, 3)), "bias": np.zeros(1)}
    units = Conv((4, 5), 3, 1, "torch").units(p, np.ones((1, 4, 5, 2)), np.ones((1, 4, 5, 1)), 1.0)
    assert units.output[0, 1, 1, 0] == pytest.approx(math.sqrt(19) * 18, rel=1e-15)
    assert units.output[0, 0, 0, 0] == pytest.approx(math.sqrt(9) * 8, rel=1e-15)


@pytest.mark.quick
@pytest.mark.parametrize("name", GRADIENTS)
def test_every_number_has_a_unit(name):
    layer, shapes, shape = GRADIENTS[name]
    rng = np.random.default_rng(8)
    p, x = {key: rng.standard_normal(size) for key, size in shapes.items()}, rng.standard_normal(shape)
    y = layer.forward(p, x)
    (dx, gradients), units = layer.backward(p, x, y), layer.units(p, x, y, 2**-24)
    for right, unit in [
        (y, units.output),
        (dx, units.input_gradient),
        *((gradients[k], units.gradients[k]) for k in gradients),
    ]:
        assert unit.shape == right.shape
        # nothing is known better than to one rounding of half the number itself, or it is exactly zero
        assert (unit >= 2**-25 * np.abs(right)).all()


@pytest.mark.quick
def test_equal_numbers_round_alike():
    x = np.array([[1.0, 1, 2, 3, 3, 3], [5, 4, 3, 2, 1, 0], [7, 7, 7, 7, 7, 7]])
    assert LayerNorm(1e-3)._alike(x).tolist() == [[14.0] * 6, [6.0] * 6, [36.0] * 6]
    assert BatchNorm(1e-3, 0.1)._alike(np.array([[1.0, 2], [1, 3], [4, 2], [1, 2]])).tolist() == [[10.0, 10.0]] * 4
    images = np.stack([np.zeros((2, 2, 4)), np.arange(16.0).reshape(2, 2, 4)])
    groups = GroupNorm(1e-3, 2)._alike(images)
    assert (groups[0] == 64).all()
    assert (groups[1] == 8).all()


@pytest.mark.quick
def test_even_ground_is_within_the_units_of_a_group_norm():
    """As behind a can: a group has 2,048 numbers, of which two make up most."""
    rng = np.random.default_rng(12)
    x = np.broadcast_to(rng.uniform(0.05, 0.1, 16), (3, 32, 32, 16)).astype(np.float32)
    x[1:, 12:20, 8:16] += rng.standard_normal((2, 8, 8, 16)).astype(np.float32)
    layer, ones, zeros = GroupNorm(1e-5, 8), np.ones(16, np.float32), np.zeros(16, np.float32)
    module = ae_torch.model.norm.GroupNorm(16, 8, 1e-5)
    flax = ae_jax.model.norm.GroupNorm(16, 8, 1e-5)
    p, wide = {"weight": ones, "bias": zeros}, x.astype(np.float64)
    y, units = layer.forward(p, wide), layer.units(p, wide, np.ones(x.shape), 2**-24).output
    given = torch.from_numpy(x).movedim(-1, 1)
    given = given.contiguous(memory_format=torch.channels_last)
    torch_away = np.abs(module(given).movedim(1, -1).detach().numpy() - y)
    jax_away = np.abs(np.asarray(flax.apply({"params": p}, jnp.asarray(x))) - y)
    assert (torch_away <= 2 * units).all()
    assert (jax_away <= 2 * units).all()
    independent = np.sqrt((2048 + 8) / (layer._alike(wide) + 8)) * units
    assert (jax_away > 2 * independent).any()
    # PyTorch's own kernel for channels_last squares before numbers cancel
    kernel = torch.nn.functional.group_norm(given, 8, eps=1e-5).movedim(1, -1).numpy()
    assert torch_away.max() < 0.1 * np.abs(kernel - y).max()


LEAVES = {
    "a": ({"weight": (4, 6), "bias": (4,)}, Linear()),
    "b": ({"weight": (6, 4), "bias": (6,)}, Linear()),
    "c": ({"weight": (3, 6)}, Linear()),
    "d": ({"weight": (2, 6), "bias": (2,)}, Linear()),
    "g": ({"weight": (6, 6)}, Linear()),
}
SMOOTH = Activation("silu", 0.0)
TREES = {
    "chain": Chain((Leaf("a", LEAVES["a"][1]), Leaf("e", SMOOTH, "e"), Leaf("b", LEAVES["b"][1]))),
    "nothing": Chain(),
    "residual": Chain(
        (
            Residual(Chain((Leaf("a", LEAVES["a"][1]), Leaf("e", SMOOTH, "e"), Leaf("b", LEAVES["b"][1])))),
            Leaf("f", SMOOTH, "b:in"),
        )
    ),
    "shortcut with a layer": Residual(Leaf("c", LEAVES["c"][1]), Chain((Shape((6,)), Leaf("c2", LEAVES["c"][1])))),
    "module": Chain((Module("m", Residual(Leaf("g", Linear()), Leaf("g2", Linear()))), Leaf("d", Linear()))),
    "fork": Chain((Fork((Leaf("c", LEAVES["c"][1]), Leaf("d", LEAVES["d"][1])), (3, 2)), Leaf("e", SMOOTH, "e"))),
    "shapes": Chain((Shape((2, 3)), Leaf("e", SMOOTH), Shape((6,)), Leaf("c", LEAVES["c"][1]))),
}


def tape_of(tree, rng):
    shapes = {leaf.name: LEAVES.get(leaf.name[0], ({},))[0] for leaf in tree.leaves}
    return Tape({n: {k: rng.standard_normal(s) for k, s in own.items()} for n, own in shapes.items()}, {}, {}, {}, {})


@pytest.mark.quick
@pytest.mark.parametrize("name", TREES)
def test_gradient_of_a_tree_is_a_difference_quotient(name):
    """As for layers; with a further gradient by the output of one layer, as a code's mean has one."""
    tree, rng, eps = TREES[name], np.random.default_rng(9), np.finfo(np.float64).eps
    h = eps ** (1 / 3)
    tape, x = tape_of(tree, rng), rng.standard_normal((5, 6))
    dy = rng.standard_normal(forward(tree, tape, x).shape)
    tape.further.update({n: rng.standard_normal(tape.outputs[n].shape) for n in list(tape.outputs)[:1]})
    by_input = tree.backward(tape, dy).reshape(x.shape)
    v = rng.standard_normal(x.shape)
    steps = {n: {k: rng.standard_normal(t.shape) for k, t in own.items()} for n, own in tape.parameters.items()}

    def value(t):
        moved = {n: {k: p + t * steps[n][k] for k, p in own.items()} for n, own in tape.parameters.items()}
        seen = Tape(moved, {}, {}, {}, {})
        return (dy * forward(tree, seen, x + t * v)).sum() + sum(
            (seen.outputs[n] * g).sum() for n, g in tape.further.items()
        )

    products = [by_input * v, *(tape.gradients[f"{n}.{k}"] * s for n, own in steps.items() for k, s in own.items())]
    assert tape.gradients.keys() == {f"{n}.{k}" for n, own in steps.items() for k in own}
    scale = sum(np.abs(product).sum() for product in products) + abs(value(0))
    quotient = (value(h) - value(-h)) / (2 * h)
    assert abs(sum(product.sum() for product in products) - quotient) <= 100 * eps ** (2 / 3) * scale


@pytest.mark.quick
@pytest.mark.parametrize("name", TREES)
def test_replay_is_what_came_to_each_layer(name):
    tree, rng = TREES[name], np.random.default_rng(10)
    tape, x = tape_of(tree, rng), rng.standard_normal((5, 6))
    forward(tree, tape, x)
    replay = Replay(tape.parameters, tape.outputs, {})
    tree.walk(replay, Flow(x, ()))
    assert replay.seen.keys() == {leaf.name for leaf in tree.leaves}
    for layer, flow in replay.seen.items():
        np.testing.assert_array_equal(flow.value, tape.inputs[layer])


@pytest.mark.quick
def test_what_a_twin_does_not_show_is_worked_out():
    tree, rng = TREES["residual"], np.random.default_rng(10)
    tape, x = tape_of(tree, rng), rng.standard_normal((5, 6))
    y = forward(tree, tape, x)
    replay = Replay(tape.parameters, {"a": tape.outputs["a"]}, {})
    np.testing.assert_array_equal(tree.walk(replay, Flow(x, ())).value, y)


@pytest.mark.quick
def test_ends_are_where_the_gradient_of_a_value_shows():
    """Of a sum it is that of either part, of what stands side by side that of all."""
    zeros = np.zeros((5, 6))

    def ends(tree, layer):
        replay = Replay({}, dict.fromkeys("abcdef", zeros) | {"b:in": zeros}, {})
        last = TREES[tree].walk(replay, Flow(zeros, ("x",)))
        return replay.seen[layer].ends if layer else last.ends

    assert ends("chain", "a") == ("x",)
    assert ends("chain", "e") == ("a",)
    assert ends("residual", "f") == ("b",)
    assert ends("residual", None) == ("b:in",)
    assert ends("fork", "e") == ("c", "d")
    assert ends("shapes", "c") == ("e",)


@dataclass(frozen=True)
class Unknown(Backbone):
    """It gets its kind when it is a class already, so that nothing but this test knows it."""

    def feature_shape(self, input_shape):
        return (3,)


Unknown.kind = "my-unet"


@pytest.mark.quick
def test_what_has_no_oracle_is_named():
    spec = replace(CASES["dense vae"], backbone=Unknown())
    assert oracle.without_oracle(spec) == ("my-unet",)
    message = 'parity_tests has no layers_of_encoder for "my-unet"; expected @layers_of_encoder.register'
    with pytest.raises(MissingError, match=message):
        oracle.layers_of(spec)
    assert check_layers(spec, images_of(spec), 0, "float32") == []
    assert check_formulas(spec, images_of(spec), 0) == []
