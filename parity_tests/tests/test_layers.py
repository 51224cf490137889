"""Each layer alone, in float64: output, input gradient and parameter gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from ae_core.geometry import crops, pads
from ae_core.spec import GaussianBottleneck, PlainBottleneck
from ae_jax import bottleneck as jax_bottleneck
from ae_jax import layers as jax_layers
from ae_jax import likelihood as jax_likelihood
from ae_jax.tensors import from_tensors, to_tensors
from ae_torch import bottleneck as torch_bottleneck
from ae_torch import layers as torch_layers
from ae_torch import likelihood as torch_likelihood
from ae_torch.tensors import from_tensors as to_module
from ae_torch.tensors import tensor_shapes
from parity_tests.check import IDENTITY_LIMIT, compare

CONV = {
    f"{padding}, kernel {kernel}, stride {stride}": (kernel, stride, padding)
    for padding in ("same", "torch")
    for kernel in (1, 2, 3, 4, 5)
    for stride in (1, 2, 3)
    if padding == "same" or kernel % 2
}
LAYERS = {
    "linear": ("Linear", (5, 7), (4, 5)),
    "linear without bias": ("Linear", (5, 7, False), (4, 5)),
    **{f"conv {n}": ("Conv", (2, 3, k, s, pads(k, s, p)), (2, 6, 12, 2)) for n, (k, s, p) in CONV.items()},
    **{
        f"transposed {n}": ("ConvTranspose", (2, 3, k, s, crops(k, s, p)), (2, 3, 4, 2))
        for n, (k, s, p) in CONV.items()
    },
    "conv without bias": ("Conv", (2, 3, 3, 1, (1, 1), False), (2, 6, 5, 2)),
    "batch norm of vectors": ("BatchNorm", (5, 1e-3, 0.3), (4, 5)),
    "batch norm of images": ("BatchNorm", (5, 1e-3, 0.3), (4, 3, 2, 5)),
    "group norm of vectors": ("GroupNorm", (6, 2, 1e-3), (4, 6)),
    "group norm of images": ("GroupNorm", (6, 3, 1e-3), (4, 3, 2, 6)),
    "layer norm of vectors": ("LayerNorm", (6, 1e-3), (4, 6)),
    "layer norm of images": ("LayerNorm", (6, 1e-3), (4, 3, 2, 6)),
}


def outside(x):
    """[B, C, H, W] to [B, H, W, C]."""
    return x.movedim(1, -1) if x.ndim == 4 else x


@pytest.mark.parametrize(
    ("name", "train"),
    [(name, True) for name in LAYERS] + [(name, False) for name, row in LAYERS.items() if row[0] == "BatchNorm"],
)
def test_layer(name, train, hold):
    kind, fields, shape = LAYERS[name]
    rng = np.random.default_rng(11)
    x = rng.standard_normal(shape)
    module = getattr(torch_layers, kind)(*fields).double().train(train)
    tensors = {n: rng.uniform(0.5, 1.5, size) for n, size in tensor_shapes(module).items()}
    to_module(module, tensors)
    inside = torch.from_numpy(x).movedim(-1, 1) if x.ndim == 4 else torch.from_numpy(x)
    inside.requires_grad_()
    y = outside(module(inside))
    seed = rng.standard_normal(tuple(y.shape))
    (y * torch.from_numpy(seed)).sum().backward()
    theirs = {
        "output": y.detach().numpy(),
        "input gradient": outside(inside.grad).numpy(),
        **{f"{n} gradient": p.grad.numpy() for n, p in module.named_parameters()},
        **{n: b.numpy() for n, b in module.named_buffers() if n != "num_batches_tracked"},
    }
    with jax.enable_x64(True):
        layer = getattr(jax_layers, kind)(*fields)
        variables = from_tensors(tensors, "float64")
        arguments = (jnp.ones(len(x)),) if kind == "BatchNorm" and train else ()

        def run(params, x):
            collections = {**variables, "params": params}
            y, updated = layer.apply(collections, x, *arguments, mutable=["batch_stats"])
            return (y * seed).sum(), (y, updated.get("batch_stats", variables["batch_stats"]))

        (by_params, by_input), (y, stats) = jax.grad(run, (0, 1), has_aux=True)(variables["params"], jnp.asarray(x))
        ours = {
            "output": np.asarray(y),
            "input gradient": np.asarray(by_input),
            **{f"{n} gradient": t for n, t in to_tensors({"params": by_params}).items()},
            **to_tensors({"params": {}, "batch_stats": stats}),
        }
    hold(compare(name, ours, theirs, IDENTITY_LIMIT, "float64"))


ACTIVATIONS = ["relu", "leaky_relu", "silu", "gelu_erf", "gelu_tanh"]


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activation(name, hold):
    """Value and slope, also at exactly 0 and far out on both sides."""
    x = np.concatenate([[0.0, -0.0], np.linspace(-40, 40, 401)])
    t = torch.from_numpy(x.copy()).requires_grad_()
    y = torch_layers.make_activation(name, 0.2)(t)
    y.sum().backward()
    with jax.enable_x64(True):
        function = jax_layers.make_activation(name, 0.2)
        ours = {"value": np.asarray(function(x)), "slope": np.asarray(jax.grad(lambda x: function(x).sum())(x))}
    theirs = {"value": y.detach().numpy(), "slope": t.grad.numpy()}
    hold(compare(name, ours, theirs, IDENTITY_LIMIT, "float64"))
    at_zero = {k: v[:2] for k, v in ours.items()}, {k: v[:2] for k, v in theirs.items()}
    hold(compare(f"{name} at 0", *at_zero, IDENTITY_LIMIT, "float64"))


LIKELIHOODS = [(kind, reduction) for kind in ("Bernoulli", "Gaussian") for reduction in ("mean", "sum")]


@pytest.mark.parametrize(("kind", "reduction"), LIKELIHOODS)
def test_likelihood(kind, reduction, hold):
    """Mean, negative log-likelihood and its gradient, for outputs up to ±50 and exactly 0, pixels 0 and 1."""
    rng = np.random.default_rng(5)
    output = np.concatenate([rng.uniform(-50, 50, (3, 4, 5, 2)), np.zeros((1, 4, 5, 2))])
    x = np.clip(rng.uniform(-0.5, 1.5, output.shape), 0, 1)
    fields = (reduction,) if kind == "Bernoulli" else (0.3, reduction)
    t = torch.from_numpy(output.copy()).requires_grad_()
    twin = getattr(torch_likelihood, kind)(*fields)
    values = twin.negative_log_likelihood(t, torch.from_numpy(x))
    values.sum().backward()
    theirs = {"mean": twin.mean(t).detach().numpy(), "value": values.detach().numpy(), "gradient": t.grad.numpy()}
    with jax.enable_x64(True):
        twin = getattr(jax_likelihood, kind)(*fields)
        output, x = jnp.asarray(output), jnp.asarray(x)
        gradient = jax.grad(lambda output: twin.negative_log_likelihood(output, x).sum())(output)
        ours = {"mean": twin.mean(output), "value": twin.negative_log_likelihood(output, x), "gradient": gradient}
    hold(compare(kind, {k: np.asarray(v) for k, v in ours.items()}, theirs, IDENTITY_LIMIT, "float64"))


@pytest.mark.parametrize("noisy", [True, False])
@pytest.mark.parametrize("bottleneck", [PlainBottleneck(3), GaussianBottleneck(3, 0.5)])
def test_bottleneck(bottleneck, noisy, hold):
    """Code, penalties and what both make of the features' gradient."""
    rng = np.random.default_rng(6)
    x, noise = rng.standard_normal((4, 5)), rng.standard_normal((4, 3)) if noisy else None
    module = torch_bottleneck.make_bottleneck(bottleneck, 5).double()
    tensors = {n: rng.standard_normal(size) for n, size in tensor_shapes(module).items()}
    to_module(module, tensors)
    features = torch.from_numpy(x.copy()).requires_grad_()
    code = module(features, None if noise is None else torch.from_numpy(noise))
    penalties = code.penalties(bottleneck)
    (code.z.sum() + sum(weight * value.sum() for weight, value in penalties.values())).backward()
    theirs = {name: value.detach().numpy() for name, value in code._asdict().items()}
    theirs |= {name: value.detach().numpy() for name, (_, value) in penalties.items()}
    theirs["gradient"] = features.grad.numpy()
    with jax.enable_x64(True):
        head = jax_bottleneck.make_bottleneck(bottleneck, 5)
        variables = {"params": from_tensors(tensors, "float64")["params"]}

        def run(x):
            code = head.apply(variables, x, None if noise is None else jnp.asarray(noise))
            penalties = code.penalties(bottleneck)
            return code.z.sum() + sum(weight * value.sum() for weight, value in penalties.values()), (code, penalties)

        gradient, (code, penalties) = jax.grad(run, has_aux=True)(jnp.asarray(x))
        ours = {**code._asdict(), **{name: value for name, (_, value) in penalties.items()}, "gradient": gradient}
    hold(compare(bottleneck.kind, {k: np.asarray(v) for k, v in ours.items()}, theirs, IDENTITY_LIMIT, "float64"))
