"""The identity gate for each layer alone, in float64, on inputs of its own choice.

A whole net seldom brings a layer near the numbers at which its formula cancels, saturates or has a kink, and where it
does, the gradients before that layer are as ill-conditioned as the fault is large. Alone, a layer can be asked there.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, get_args

import jax
import jax.numpy as jnp
import numpy as np
import torch
from jaxtyping import Float64

from ae_core.spec import Activation, GaussianBottleneck, Padding, PlainBottleneck
from ae_core.spec.geometry import crops, pads
from ae_jax.model import bottleneck as jax_bottleneck
from ae_jax.model import layers as jax_layers
from ae_jax.model import likelihood as jax_likelihood
from ae_jax.tensors import from_tensors, to_tensors
from ae_torch.model import bottleneck as torch_bottleneck
from ae_torch.model import layers as torch_layers
from ae_torch.model import likelihood as torch_likelihood
from ae_torch.tensors import from_tensors as to_module
from ae_torch.tensors import tensor_shapes
from parity_tests.check import IDENTITY_LIMIT, Check, compare

OFFSET = 5e3
"""Mean of what is normalised far from 0, in standard deviations. Rounding of x − mean is 5e3·2⁻⁵³ = 6e-13 of x̂, and of
E[x²] − E[x]² it is 5e3²·2⁻⁵³ = 3e-9 of the variance: the limit lies between the two."""
SATURATED = (20.0, 23.0)
"""Logits l at which PyTorch's softplus leaves out log(1 + exp(−l)), 2e-9 to 1e-10."""
PALE = 2.0**-6
"""How far from white pixels are at these logits. At white itself a loss written log(1 + exp(l)) − x·l has nothing left
but the rounding of l, 4e-15; here (1 − x)·l remains, 1e-1, and of the gradient 1 − x, 1e-2."""


def _gate(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> list[Check]:
    def numpy(side: Mapping[str, Any]) -> dict[str, np.ndarray]:
        return {n: v.detach().numpy() if isinstance(v, torch.Tensor) else np.asarray(v) for n, v in side.items()}

    return compare("alone", numpy(ours), numpy(theirs), IDENTITY_LIMIT, "float64")


def check_layer(
    kind: str, fields: tuple[Any, ...], shape: tuple[int, ...], train: bool = True, offset: float = 0.0
) -> list[Check]:
    """Compare one layer: output, gradients by input and parameters, running statistics.

    Args:
        kind: name of the layer's class, the same in both twins.
        fields: what it is constructed from.
        shape: of its input; images are [B, H, W, C].
        train: normalise with the batch's statistics.
        offset: mean of the input, whose standard deviation is 1.
    """
    rng = np.random.default_rng(11)
    x = offset + rng.standard_normal(shape)
    module = getattr(torch_layers, kind)(*fields).double().train(train)
    tensors = {n: rng.uniform(0.5, 1.5, size) for n, size in tensor_shapes(module).items()}
    to_module(module, tensors)
    inside = torch.from_numpy(x).movedim(-1, 1) if x.ndim == 4 else torch.from_numpy(x)
    inside.requires_grad_()
    y = _outside(module(inside))
    seed = rng.standard_normal(tuple(y.shape))
    (y * torch.from_numpy(seed)).sum().backward()
    assert inside.grad is not None
    theirs = {
        "output": y,
        "input gradient": _outside(inside.grad),
        **{f"{n} gradient": p.grad for n, p in module.named_parameters()},
        **{n: b for n, b in module.named_buffers() if n != "num_batches_tracked"},
    }
    with jax.enable_x64(True):
        layer = getattr(jax_layers, kind)(*fields)
        variables = from_tensors(tensors, "float64")
        arguments = (jnp.ones(len(x)),) if kind == "BatchNorm" and train else ()

        def run(params: Any, x: Any) -> Any:
            collections = {**variables, "params": params}
            y, updated = layer.apply(collections, x, *arguments, mutable=["batch_stats"])
            return (y * seed).sum(), (y, updated.get("batch_stats", variables["batch_stats"]))

        (by_params, by_input), (out, stats) = jax.grad(run, (0, 1), has_aux=True)(variables["params"], jnp.asarray(x))
        ours = {
            "output": out,
            "input gradient": by_input,
            **{f"{n} gradient": t for n, t in to_tensors({"params": by_params}).items()},
            **to_tensors({"params": {}, "batch_stats": stats}),
        }
    return _gate(ours, theirs)


def _outside(x: torch.Tensor) -> torch.Tensor:
    """[B, C, H, W] to [B, H, W, C]."""
    return x.movedim(1, -1) if x.ndim == 4 else x


def check_activation(name: Activation) -> list[Check]:
    """Compare value and slope, far out on both sides, and by themselves at exactly 0."""
    x = np.concatenate([[0.0, -0.0], np.linspace(-40, 40, 401)])
    t = torch.from_numpy(x.copy()).requires_grad_()
    y = torch_layers.make_activation(name, 0.2)(t)
    y.sum().backward()
    assert t.grad is not None
    with jax.enable_x64(True):
        function = jax_layers.make_activation(name, 0.2)
        ours = {"value": function(jnp.asarray(x)), "slope": jax.grad(lambda x: function(x).sum())(jnp.asarray(x))}
        theirs = {"value": y.detach(), "slope": t.grad}
        at_zero = [{f"{key} at 0": value[:2] for key, value in side.items()} for side in (ours, theirs)]
        return _gate(ours | at_zero[0], theirs | at_zero[1])


def check_likelihood(
    kind: str, fields: tuple[Any, ...], output: Float64[np.ndarray, "B H W C"], x: Float64[np.ndarray, "B H W C"]
) -> list[Check]:
    """Compare mean, negative log-likelihood and its gradient by the decoder's output."""
    t = torch.from_numpy(output.copy()).requires_grad_()
    module = getattr(torch_likelihood, kind)(*fields)
    values = module.negative_log_likelihood(t, torch.from_numpy(x))
    values.sum().backward()
    theirs = {"mean": module.mean(t), "value": values, "gradient": t.grad}
    with jax.enable_x64(True):
        twin = getattr(jax_likelihood, kind)(*fields)
        inputs = jnp.asarray(output), jnp.asarray(x)
        gradient = jax.grad(lambda output: twin.negative_log_likelihood(output, inputs[1]).sum())(inputs[0])
        ours = {"mean": twin.mean(inputs[0]), "value": twin.negative_log_likelihood(*inputs), "gradient": gradient}
    return _gate(ours, theirs)


def check_bottleneck(bottleneck: PlainBottleneck | GaussianBottleneck, noisy: bool) -> list[Check]:
    """Compare code, penalties and what both make of the features' gradient."""
    rng = np.random.default_rng(6)
    x, noise = rng.standard_normal((4, 5)), rng.standard_normal((4, 3)) if noisy else None
    module = torch_bottleneck.make_bottleneck(bottleneck, 5).double()
    tensors = {n: rng.standard_normal(size) for n, size in tensor_shapes(module).items()}
    to_module(module, tensors)
    features = torch.from_numpy(x.copy()).requires_grad_()

    def loss(code: Any, penalties: Any) -> Any:
        return code.z.sum() + sum(weight * value.sum() for weight, value in penalties.values())

    code = module(features, None if noise is None else torch.from_numpy(noise))
    penalties = code.penalties(bottleneck)
    loss(code, penalties).backward()
    theirs = {**code._asdict(), **{n: value for n, (_, value) in penalties.items()}, "gradient": features.grad}
    with jax.enable_x64(True):
        head = jax_bottleneck.make_bottleneck(bottleneck, 5)
        variables = {"params": from_tensors(tensors, "float64")["params"]}

        def run(x: Any) -> Any:
            code: Any = head.apply(variables, x, None if noise is None else jnp.asarray(noise))
            penalties = code.penalties(bottleneck)
            return loss(code, penalties), (code, penalties)

        gradient, (code, penalties) = jax.grad(run, has_aux=True)(jnp.asarray(x))
        ours = {**code._asdict(), **{n: value for n, (_, value) in penalties.items()}, "gradient": gradient}
    return _gate(ours, theirs)


def _pixels() -> tuple[np.ndarray, np.ndarray]:
    """Outputs up to ±50 and exactly 0, pixels among them 0 and 1."""
    rng = np.random.default_rng(5)
    output = np.concatenate([rng.uniform(-50, 50, (3, 4, 5, 2)), np.zeros((1, 4, 5, 2))])
    return output, np.clip(rng.uniform(-0.5, 1.5, output.shape), 0, 1)


def _saturated() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(5)
    return rng.uniform(*SATURATED, (4, 4, 5, 2)), 1 - PALE * rng.random((4, 4, 5, 2))


_PADDINGS: tuple[Padding, ...] = ("same", "torch")
_ACTIVATIONS: tuple[Activation, ...] = get_args(Activation)
_CONV = {
    f"{padding}, kernel {kernel}, stride {stride}": (kernel, stride, padding)
    for padding in _PADDINGS
    for kernel in (1, 2, 3, 4, 5)
    for stride in (1, 2, 3)
    if padding == "same" or kernel % 2
}
_NORMS: dict[str, tuple[str, tuple[Any, ...], tuple[int, ...]]] = {
    "batch norm of vectors": ("BatchNorm", (5, 1e-3, 0.3), (4, 5)),
    "batch norm of images": ("BatchNorm", (5, 1e-3, 0.3), (4, 3, 2, 5)),
    "group norm of vectors": ("GroupNorm", (6, 2, 1e-3), (4, 6)),
    "group norm of images": ("GroupNorm", (6, 3, 1e-3), (4, 3, 2, 6)),
    "layer norm of vectors": ("LayerNorm", (6, 1e-3), (4, 6)),
    "layer norm of images": ("LayerNorm", (6, 1e-3), (4, 3, 2, 6)),
}

ALONE: dict[str, Callable[[], list[Check]]] = {
    "linear": partial(check_layer, "Linear", (5, 7), (4, 5)),
    "linear without bias": partial(check_layer, "Linear", (5, 7, False), (4, 5)),
    **{
        f"conv {name}": partial(check_layer, "Conv", (2, 3, k, s, pads(k, s, p)), (2, 6, 12, 2))
        for name, (k, s, p) in _CONV.items()
    },
    **{
        f"transposed {name}": partial(check_layer, "ConvTranspose", (2, 3, k, s, crops(k, s, p)), (2, 3, 4, 2))
        for name, (k, s, p) in _CONV.items()
    },
    "conv without bias": partial(check_layer, "Conv", (2, 3, 3, 1, (1, 1), False), (2, 6, 5, 2)),
    **{name: partial(check_layer, *row) for name, row in _NORMS.items()},
    **{
        f"{n}, evaluated": partial(check_layer, *row, train=False) for n, row in _NORMS.items() if row[0] == "BatchNorm"
    },
    # not of groups: PyTorch's own gradient of group norm of images subtracts such squares, and is off by 3e-8 at 1e4
    "batch norm far from 0": partial(check_layer, "BatchNorm", (24, 1e-3, 0.3), (24, 24), offset=OFFSET),
    "layer norm far from 0": partial(check_layer, "LayerNorm", (24, 1e-3), (24, 24), offset=OFFSET),
    **{name: partial(check_activation, name) for name in _ACTIVATIONS},
    **{f"bernoulli, {r}": partial(check_likelihood, "Bernoulli", (r,), *_pixels()) for r in ("mean", "sum")},
    **{f"gaussian, {r}": partial(check_likelihood, "Gaussian", (0.3, r), *_pixels()) for r in ("mean", "sum")},
    "bernoulli, saturated": partial(check_likelihood, "Bernoulli", ("sum",), *_saturated()),
    **{
        f"{bottleneck.kind} code{', noise' if noisy else ''}": partial(check_bottleneck, bottleneck, noisy)
        for bottleneck in (PlainBottleneck(3), GaussianBottleneck(3, 0.5))
        for noisy in (True, False)
    },
}
"""Every comparison of one layer alone, by name."""
