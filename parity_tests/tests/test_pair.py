"""Pairs of someone else's models: equal ones pass, and each planted mistake is named at its layer and by its trap."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import torch
import torch.nn.functional as F

import parity_tests
from parity_tests.pair.compare import compare_pair
from parity_tests.pair.pair import PairError


def images(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def first(x):
    """Channels first."""
    return np.ascontiguousarray(np.moveaxis(x, -1, 1))


class Flax(nn.Module):
    """Layers by name, one after another; what is no layer is a function."""

    steps: tuple
    """(name or None, module or function)."""

    @nn.compact
    def __call__(self, x):
        for name, make in self.steps:
            x = make(x) if name is None else make(name=name)(x)
        return x


class Torch(torch.nn.Module):
    """The same in PyTorch."""

    def __init__(self, **steps):
        super().__init__()
        torch.manual_seed(1)
        self.steps = []
        for name, step in steps.items():
            if isinstance(step, torch.nn.Module):
                self.add_module(name, step)
            self.steps.append((name, step))

    def forward(self, x):
        for name, step in self.steps:
            x = getattr(self, name)(x) if isinstance(step, torch.nn.Module) else step(x)
        return x


def flax_pair(steps, module, x, **others):
    model = Flax(tuple(steps))
    return {
        "jax_apply": model.apply,
        "jax_params": model.init(jax.random.key(0), x),
        "torch_module": module,
        "inputs": (x,),
        **({"torch_inputs": (first(x),)} if x.ndim == 4 else {}),
        **others,
    }


def layer(kind, *fields, **named):
    return lambda name: kind(*fields, **named, name=name)


MAP, VECTOR = images(3, 8, 8, 4), images(5, 12)
CONV = layer(nn.Conv, 6, (3, 3), (2, 2))


def conv_net(**changes):
    """A convolution, a norm, an activation, a head; each may be replaced by a mistaken one."""
    right = {
        "pad": lambda x: F.pad(x, (0, 1, 0, 1)),
        "conv": torch.nn.Conv2d(4, 6, 3, 2),
        "norm": torch.nn.GroupNorm(2, 6, eps=1e-6),
        "act": lambda x: F.gelu(x, approximate="tanh"),
        "flat": lambda x: x.permute(0, 2, 3, 1).flatten(1),
        "head": torch.nn.Linear(96, 5),
    }
    steps = [
        ("conv", CONV),
        ("norm", layer(nn.GroupNorm, 2)),
        (None, nn.gelu),
        (None, lambda x: x.reshape(len(x), -1)),
        ("head", layer(nn.Dense, 5)),
    ]
    return flax_pair(steps, Torch(**(right | changes)), MAP)


def deconv_net(**changes):
    right = {"up": torch.nn.ConvTranspose2d(4, 6, 4, 2, 1), "act": F.silu}
    steps = [("up", layer(nn.ConvTranspose, 6, (4, 4), (2, 2))), (None, nn.silu)]
    return flax_pair(steps, Torch(**(right | changes)), MAP)


def dense_net(x=VECTOR, jax_act=nn.relu, **changes):
    right = {"one": torch.nn.Linear(12, 12), "act": F.relu, "two": torch.nn.Linear(12, 12)}
    steps = [("one", layer(nn.Dense, 12)), (None, jax_act), ("two", layer(nn.Dense, 12))]
    return flax_pair(steps, Torch(**(right | changes)), x)


class Flipped(torch.nn.ConvTranspose2d):
    def forward(self, x):
        return F.conv_transpose2d(x, self.weight.flip(2, 3), self.bias, self.stride, self.padding)


class Uncut(torch.nn.ConvTranspose2d):
    def forward(self, x):
        return super().forward(x)[..., :16, :16]


class BatchFlax(nn.Module):
    @nn.compact
    def __call__(self, x):
        return nn.BatchNorm(use_running_average=False, momentum=0.9, epsilon=1e-5, name="norm")(
            nn.Dense(6, name="one")(x)
        )


class Evaluated(nn.Module):
    @nn.compact
    def __call__(self, x):
        return nn.BatchNorm(use_running_average=True, epsilon=1e-5, name="norm")(nn.Dense(6, name="one")(x))


def evaluated_net():
    module = Torch(one=torch.nn.Linear(12, 6), norm=torch.nn.BatchNorm1d(6)).eval()
    steps_by_their_own = {"jax_optimizer": optax.adamw(1e-3, weight_decay=0.1)}
    others = {"torch_optimizer": lambda parameters: torch.optim.AdamW(parameters, 1e-3, weight_decay=0.1)}
    model = Evaluated()
    return {
        "jax_apply": model.apply,
        "jax_params": model.init(jax.random.key(0), VECTOR),
        "torch_module": module,
        "inputs": (VECTOR,),
        **steps_by_their_own,
        **others,
    }


def batch_net(**fields):
    model, module = BatchFlax(), Torch(one=torch.nn.Linear(12, 6), norm=torch.nn.BatchNorm1d(6, **fields))
    return {
        "jax_apply": lambda params, x: model.apply(params, x, mutable=["batch_stats"]),
        "jax_params": model.init(jax.random.key(0), VECTOR),
        "torch_module": module.train(),
        "inputs": (VECTOR,),
        "returns_state": True,
    }


class Biased(torch.nn.BatchNorm1d):
    """Keeps the biased variance, as Flax does."""

    def forward(self, x):
        old = self.running_var.clone()
        y = super().forward(x)
        with torch.no_grad():
            self.running_var.data.copy_(0.9 * old + 0.1 * x.detach().var(0, correction=0))
        return y


def losses(jax_loss, torch_loss, **others):
    return dense_net() | {"jax_loss": jax_loss, "torch_loss": torch_loss, **others}


def standardised(x):
    return (x - x.mean(1, keepdim=True)) / x.std(1, keepdim=True)


def swapped():
    return dense_net() | {"names": {"one.weight": "two.kernel", "two.weight": "one.kernel"}}


class Attention(nn.Module):
    @nn.compact
    def __call__(self, x):
        y = nn.MultiHeadDotProductAttention(3, name="attention")(x, x)
        return nn.Dense(4, name="head")(y)


class TorchAttention(torch.nn.Module):
    def __init__(self, heads=3):
        super().__init__()
        self.attention = torch.nn.MultiheadAttention(12, heads, batch_first=True)
        self.head = torch.nn.Linear(12, 4)

    def forward(self, x):
        return self.head(self.attention(x, x, x, need_weights=False)[0])


class Projected(torch.nn.Module):
    """Attention written out; ``merge`` puts the heads together again."""

    def __init__(self, merge, scale=None):
        super().__init__()
        self.query, self.key, self.value = (torch.nn.Linear(12, 12) for _ in range(3))
        self.out, self.merge, self.scale = torch.nn.Linear(12, 12), merge, scale

    def forward(self, x):
        q, k, v = (part(x).unflatten(-1, (3, 4)).transpose(1, 2) for part in (self.query, self.key, self.value))
        y = F.scaled_dot_product_attention(q, k, v, scale=self.scale)
        return self.out(self.merge(y))


def right_merge(y):
    return y.transpose(1, 2).flatten(2)


def projected(**fields):
    class Whole(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.attention, self.head = Projected(**fields), torch.nn.Linear(12, 4)

        def forward(self, x):
            return self.head(self.attention(x))

    x, model = images(2, 5, 12), Attention()
    return {
        "jax_apply": model.apply,
        "jax_params": model.init(jax.random.key(0), x),
        "torch_module": Whole(),
        "inputs": (x,),
    }


def attention_pair():
    x, model = images(2, 5, 12), Attention()
    params = model.init(jax.random.key(0), x)
    return {"jax_apply": model.apply, "jax_params": params, "torch_module": TorchAttention().train(), "inputs": (x,)}


def stop(x):
    return jax.lax.stop_gradient(x)


EQUAL = {
    "a convolutional net": conv_net,
    "a transposed convolution": deconv_net,
    "a dense net": dense_net,
    "batch norm in training": lambda: (
        batch_net() | {"torch_module": Torch(one=torch.nn.Linear(12, 6), norm=Biased(6)).train()}
    ),
    "batch norm in evaluation, whose statistics no decay moves": evaluated_net,
    "PyTorch's own attention": attention_pair,
    "attention written out": lambda: projected(merge=right_merge),
    "losses of their own": lambda: losses(lambda y, x: (y**2).sum(), lambda y, x: (y**2).sum()),
}

PLANTED = {
    "padding": (lambda: conv_net(pad=lambda x: x, conv=torch.nn.Conv2d(4, 6, 3, 2, 1)), "conv", "padding"),
    "eps": (lambda: conv_net(norm=torch.nn.GroupNorm(2, 6)), "norm", "eps"),
    "groups": (lambda: conv_net(norm=torch.nn.GroupNorm(3, 6, eps=1e-6)), "norm", "normalised axes"),
    "GELU": (lambda: conv_net(act=F.gelu), "head", "GELU form"),
    "flatten": (lambda: conv_net(flat=lambda x: x.flatten(1)), "head", "flatten order"),
    "flip": (lambda: deconv_net(up=Flipped(4, 6, 4, 2, 1)), "up", "flip"),
    "margins": (
        lambda: deconv_net(up=Uncut(4, 6, 4, 2)),
        "up",
        "padding of a transposed convolution",
    ),
    "activation": (lambda: dense_net(act=F.elu), "two", "activation"),
    "slope": (lambda: dense_net(jax_act=lambda x: nn.leaky_relu(x, 0.2), act=F.leaky_relu), "two", "slope"),
    "deviation": (
        lambda: dense_net(jax_act=lambda x: (x - x.mean(1, keepdims=True)) / x.std(1, keepdims=True), act=standardised),
        "two",
        "unbiased variance",
    ),
    "softmax": (lambda: dense_net(jax_act=nn.softmax, act=lambda x: F.softmax(x, 0)), "two", "axis"),
    "float": (lambda: dense_net(act=lambda x: F.relu(x.float()).to(x.dtype)), "two", "narrow type"),
    "dropout": (lambda: dense_net(act=lambda x: F.dropout(F.relu(x), 0.5)), "two", "dropout"),
    "exchanged": (swapped, "one", "exchanged weights"),
    "heads": (lambda: projected(merge=lambda y: y.permute(0, 2, 3, 1).flatten(2)), "attention.out", "order of heads"),
    "scale": (lambda: projected(merge=right_merge, scale=1.0), "attention.out", "scale of attention"),
    "momentum and variance": (
        lambda: (
            batch_net()
            | {"torch_module": Torch(one=torch.nn.Linear(12, 6), norm=torch.nn.BatchNorm1d(6, momentum=0.9))}
        ),
        None,
        "momentum, unbiased variance",
    ),
    "running variance": (batch_net, None, "unbiased variance"),
    "statistics and variance": (
        lambda: batch_net() | {"torch_module": batch_net()["torch_module"].eval()},
        "norm",
        "running statistics, unbiased variance",
    ),
    "reduction": (lambda: losses(lambda y, x: (y**2).sum(1).mean(), lambda y, x: (y**2).mean()), None, "reduction"),
    "half": (lambda: losses(lambda y, x: optax.l2_loss(y).mean(), lambda y, x: (y**2).mean()), None, "reduction"),
    "decay": (
        lambda: (
            dense_net()
            | {
                "jax_optimizer": optax.adamw(1e-3),
                "torch_optimizer": lambda parameters: torch.optim.AdamW(parameters, 1e-3),
            }
        ),
        None,
        "optimiser",
    ),
    "detached": (lambda: dense_net(act=lambda x: F.relu(x).detach()), None, "stopped gradient"),
    "stopped": (lambda: dense_net(jax_act=lambda x: stop(nn.relu(x))), None, "stopped gradient"),
}


@pytest.mark.parametrize("name", EQUAL)
def test_equal_pairs_pass(name):
    result = compare_pair(**EQUAL[name]())
    assert result.passed, [str(check) for check in result.checks if not check.passed]
    assert (result.outlier, result.findings, result.unused) == (None, [], ())
    kinds = {check.name for check in result.checks}
    assert kinds >= {"intermediate", "output", "loss", "gradient", "training", "float32"}
    assert len([layer for layer in result.layers if layer.name != "output"]) >= 1


@pytest.mark.parametrize("name", PLANTED)
def test_planted_mistakes_are_named(name):
    make, outlier, trap = PLANTED[name]
    result = compare_pair(**make())
    assert not result.passed
    assert result.outlier == outlier
    assert {finding.trap for finding in result.findings} == set(trap.split(", "))
    assert result.mended


def test_enough_mistakes_are_planted():
    assert len(PLANTED) >= 12
    assert len({trap for _, _, trap in PLANTED.values()}) >= 12


def test_several_mistakes_at_once():
    """Two lie between the same layers, so that neither mend alone helps."""
    result = compare_pair(
        **conv_net(
            pad=lambda x: x,
            conv=torch.nn.Conv2d(4, 6, 3, 2, 1),
            norm=torch.nn.GroupNorm(2, 6),
            act=F.gelu,
            flat=lambda x: x.flatten(1),
        )
    )
    assert [finding.trap for finding in result.findings] == ["padding", "eps", "GELU form", "flatten order"]
    assert result.mended


def test_fast_variance_shows_in_float32_alone():
    """Flax's default, far from 0."""
    x = images(4, 64) + 100
    steps, module = [("norm", layer(nn.LayerNorm))], Torch(norm=torch.nn.LayerNorm(64, eps=1e-6))
    result = compare_pair(**flax_pair(steps, module, x))
    assert [finding.trap for finding in result.findings] == ["fast variance"]
    steps = [("norm", layer(nn.LayerNorm, use_fast_variance=False))]
    assert compare_pair(**flax_pair(steps, module, x)).passed


def test_what_fits_no_row_is_said_so():
    result = compare_pair(**dense_net(act=lambda x: F.relu(x) + 0.01 * x.sin()))
    assert (result.passed, result.outlier, result.findings, result.mended) == (False, "two", [], False)
    assert result.tried > 10


def test_a_bias_before_a_norm_stays():
    """Its gradient is rounding, which Adam would turn into full steps."""
    steps = [("one", layer(nn.Dense, 6)), ("norm", layer(nn.LayerNorm))]
    module = Torch(one=torch.nn.Linear(12, 6), norm=torch.nn.LayerNorm(6, eps=1e-6))
    pair = flax_pair(steps, module, images(5, 12))
    assert compare_pair(**pair).still == ()

    class Centred(nn.Module):
        @nn.compact
        def __call__(self, x):
            y = nn.Dense(6, name="one")(x)
            return y - y.mean(0)

    model = Centred()
    module = Torch(one=torch.nn.Linear(12, 6), centre=lambda y: y - y.mean(0))
    x = images(5, 12)
    result = compare_pair(model.apply, model.init(jax.random.key(0), x), module, (x,))
    assert result.still == ("one.bias",)
    assert result.passed


def test_the_module_is_left_as_it_was():
    pair = batch_net()
    before = {name: t.clone() for name, t in pair["torch_module"].state_dict().items()}
    compare_pair(**pair)
    after = pair["torch_module"].state_dict()
    assert all(torch.equal(after[name], t) for name, t in before.items())
    assert all(p.grad is None for p in pair["torch_module"].parameters())


def test_plain_jax_with_taps():
    rng = np.random.default_rng(0)
    params = {
        "w1": rng.standard_normal((12, 7)),
        "b1": np.zeros(7),
        "w2": rng.standard_normal((7, 2)),
        "b2": np.zeros(2),
    }
    params = {name: jnp.asarray(value, jnp.float32) for name, value in params.items()}
    hidden = lambda p, x: jnp.tanh(x @ p["w1"] + p["b1"])  # noqa: E731
    names = {"one.weight": "w1", "one.bias": "b1", "two.weight": "w2", "two.bias": "b2"}
    module = Torch(one=torch.nn.Linear(12, 7), act=torch.nn.Tanh(), two=torch.nn.Linear(7, 2))
    result = compare_pair(
        lambda p, x: hidden(p, x) @ p["w2"] + p["b2"],
        params,
        module,
        (VECTOR,),
        names=names,
        jax_taps=lambda p, x: {"act": hidden(p, x)},
    )
    assert result.passed
    assert [layer.name for layer in result.layers] == ["act", "output"]
    assert result.unnamed == ("one", "two")


def test_trees_of_outputs_and_integers_among_inputs():
    table = np.random.default_rng(0).standard_normal((9, 4)).astype(np.float32)

    class Two(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.table = torch.nn.Embedding(9, 4)

        def forward(self, words, scale):
            y = self.table(words) * scale
            return {"y": y, "sum": y.sum(1)}

    def apply(params, words, scale):
        y = params["table"]["embedding"][words] * scale
        return {"sum": y.sum(1), "y": y}

    words, scale = np.array([[1, 2, 2], [8, 0, 1]]), np.float32([[[2.0]], [[3.0]]])
    result = compare_pair(apply, {"table": {"embedding": table}}, Two(), (words, scale))
    assert result.passed
    assert [layer.name for layer in result.layers] == ["output[0]", "output[1]"]


def test_a_buffer_of_its_own_and_a_frozen_parameter():
    module = dense_net()["torch_module"]
    module.register_buffer("table", torch.arange(3.0))
    module.one.weight.requires_grad_(False)
    result = compare_pair(**(dense_net() | {"torch_module": module}))
    assert result.passed
    assert result.own == ("table",)
    assert "one.weight" in {check.place for check in result.checks if check.name == "gradient"}


def test_library_call():
    assert parity_tests.compare_pair is compare_pair
    with pytest.raises(AttributeError, match="no attribute 'compare_pears'"):
        parity_tests.compare_pears  # noqa: B018


WRONG = {
    "nothing of that name": (
        lambda: dense_net() | {"jax_params": {"params": {"first": dense_net()["jax_params"]["params"]["one"]}}},
        r"names: one\.weight \[12, 12\]: nothing in JAX has its name; .*perhaps names = \{\"one\": \"first\"\}",
    ),
    "unknown module": (
        lambda: dense_net() | {"names": {"three": "one"}},
        'PyTorch has no module and no tensor "three"',
    ),
    "unknown array": (lambda: dense_net() | {"names": {"one.weight": "one.core"}}, 'stands for "one.core", which JAX'),
    "another shape": (
        lambda: dense_net(two=torch.nn.Linear(12, 13)),
        r"two\.weight \[13, 12\]: no axis rule makes it of two\.kernel \[12, 12\]",
    ),
    "no arrays": (
        lambda: dense_net() | {"inputs": ([1.0],)},
        "inputs: given a tuple of list; expected a tuple of NumPy",
    ),
    "no module": (lambda: dense_net() | {"torch_module": F.relu}, "torch_module: given function; expected a torch.nn"),
    "one loss": (lambda: dense_net() | {"jax_loss": jnp.sum}, "given one of jax_loss and torch_loss; expected both"),
    "fewer inputs": (lambda: dense_net() | {"torch_inputs": (VECTOR, VECTOR)}, "torch_inputs: given 2; expected 1"),
    "a failing function": (
        lambda: dense_net() | {"jax_apply": lambda p, x: 1 / 0},
        "jax_apply: fails with ZeroDivision",
    ),
    "a failing module": (
        lambda: dense_net(act=lambda x: x.reshape(7, 7)),
        "torch_module: fails with RuntimeError",
    ),
    "an unknown optimiser": (lambda: dense_net() | {"optimizer": "lion"}, "optimizer: given lion; expected one of sgd"),
    "an unknown tap": (
        lambda: dense_net() | {"jax_taps": lambda p, x: {"three": x}},
        'jax_taps: PyTorch has no module "three" that returned; it has one, two',
    ),
    "no state": (
        lambda: dense_net() | {"returns_state": True},
        r"returns_state: jax_apply did not return \(output, state\)",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_cannot_be_compared_is_refused_in_one_line(name):
    make, message = WRONG[name]
    with pytest.raises(PairError, match=message) as caught:
        compare_pair(**make())
    assert "\n" not in str(caught.value)
