"""The identity gate for each layer alone, in float64, on inputs of its own choice.

A whole net seldom brings a layer near the numbers at which its formula cancels, saturates or has a kink, and where it
does, the gradients before that layer are as ill-conditioned as the fault is large. Alone, a layer can be asked there.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any, get_args

import jax
import jax.numpy as jnp
import numpy as np
import torch
from jaxtyping import Float64

from ae_core.files.weights import is_state
from ae_core.spec import (
    Activation,
    BatchNorm,
    BernoulliLikelihood,
    Bottleneck,
    LayerNorm,
    Likelihood,
    Norm,
    Padding,
    Reduction,
    components_of,
)
from ae_core.spec.geometry import crops, pads
from ae_jax.model import bottleneck as jax_bottleneck
from ae_jax.model import layers as jax_layers
from ae_jax.model import likelihood as jax_likelihood
from ae_jax.model import norm as jax_norm
from ae_jax.tensors import STATE, from_tensors, to_tensors
from ae_torch.model import bottleneck as torch_bottleneck
from ae_torch.model import layers as torch_layers
from ae_torch.model import likelihood as torch_likelihood
from ae_torch.model import norm as torch_norm
from ae_torch.tensors import from_tensors as to_module
from ae_torch.tensors import tensor_shapes
from parity_tests.cases import CASES
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

    return compare("layer", numpy(ours), numpy(theirs), IDENTITY_LIMIT, "float64")


def check_layer(kind: str, fields: tuple[Any, ...], shape: tuple[int, ...]) -> list[Check]:
    """Compare one layer: output, gradients by input and parameters.

    Args:
        kind: name of the layer's class, the same in both twins.
        fields: what it is constructed from.
        shape: of its input; images are [B, H, W, C].
    """
    return _check_module(getattr(jax_layers, kind)(*fields), getattr(torch_layers, kind)(*fields), shape)


def check_norm(
    norm: Norm, features: int, shape: tuple[int, ...], train: bool = True, offset: float = 0.0
) -> list[Check]:
    """Compare one normalisation: output, gradients by input and parameters, state.

    Args:
        norm: of which kind.
        features: number of channels.
        shape: of its input; images are [B, H, W, C].
        train: normalise as in training.
        offset: mean of the input, whose standard deviation is 1.
    """
    twins = jax_norm.make_norm(norm, features), torch_norm.make_norm(norm, features)
    return _check_module(*twins, shape, (jnp.ones(shape[0]) if train else None,), train, offset)


def _check_module(
    layer: Any,
    module: torch.nn.Module,
    shape: tuple[int, ...],
    arguments: tuple[Any, ...] = (),
    train: bool = True,
    offset: float = 0.0,
) -> list[Check]:
    rng = np.random.default_rng(11)
    x = offset + rng.standard_normal(shape)
    module = module.double().train(train)
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
        **{n: b for n, b in module.named_buffers() if is_state(n)},
    }
    with jax.enable_x64(True):
        variables = from_tensors(tensors, "float64")

        def run(params: Any, x: Any) -> Any:
            y, updated = layer.apply({**variables, "params": params}, x, *arguments, mutable=[STATE])
            return (y * seed).sum(), (y, updated.get(STATE, variables[STATE]))

        (by_params, by_input), (out, state) = jax.grad(run, (0, 1), has_aux=True)(variables["params"], jnp.asarray(x))
        ours = {
            "output": out,
            "input gradient": by_input,
            **{f"{n} gradient": t for n, t in to_tensors({"params": by_params}).items()},
            **to_tensors({"params": {}, STATE: state}),
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
    likelihood: Likelihood, output: Float64[np.ndarray, "B H W C"], x: Float64[np.ndarray, "B H W C"]
) -> list[Check]:
    """Compare mean, negative log-likelihood and its gradient by the decoder's output."""
    t = torch.from_numpy(output.copy()).requires_grad_()
    module = torch_likelihood.make_likelihood(likelihood)
    values = module.negative_log_likelihood(t, torch.from_numpy(x))
    values.sum().backward()
    theirs = {"mean": module.mean(t), "value": values, "gradient": t.grad}
    with jax.enable_x64(True):
        twin = jax_likelihood.make_likelihood(likelihood)
        inputs = jnp.asarray(output), jnp.asarray(x)
        gradient = jax.grad(lambda output: twin.negative_log_likelihood(output, inputs[1]).sum())(inputs[0])
        ours = {"mean": twin.mean(inputs[0]), "value": twin.negative_log_likelihood(*inputs), "gradient": gradient}
    return _gate(ours, theirs)


def check_bottleneck(
    bottleneck: Bottleneck, shape: tuple[int, ...], sites: Mapping[str, tuple[int, ...]]
) -> list[Check]:
    """Compare code, penalties and what both make of the features' gradient; every coefficient is ½.

    Args:
        bottleneck: of which kind.
        shape: of one image's features.
        sites: shape of one image's noise at each site that gets any.
    """
    rng = np.random.default_rng(6)
    x, noise = rng.standard_normal((4, *shape)), {n: rng.standard_normal((4, *size)) for n, size in sites.items()}
    weights = dict.fromkeys(bottleneck.coefficients, 0.5)
    module = torch_bottleneck.make_bottleneck(bottleneck, shape).double()
    tensors = {n: rng.standard_normal(size) for n, size in tensor_shapes(module).items()}
    to_module(module, tensors)
    features = torch.from_numpy(x.copy()).requires_grad_()

    def loss(code: Any, penalties: Any) -> Any:
        return code.z.sum() + sum(weight * value.sum() for weight, value in penalties.values() if weight is not None)

    code = module(features, {n: torch.from_numpy(values) for n, values in noise.items()})
    penalties = code.penalties(bottleneck, weights)
    loss(code, penalties).backward()
    theirs = {**code._asdict(), **{n: value for n, (_, value) in penalties.items()}, "gradient": features.grad}
    with jax.enable_x64(True):
        head = jax_bottleneck.make_bottleneck(bottleneck, shape)
        variables = {"params": from_tensors(tensors, "float64")["params"]}

        def run(x: Any) -> Any:
            code: Any = head.apply(variables, x, {n: jnp.asarray(values) for n, values in noise.items()})
            penalties = code.penalties(bottleneck, weights)
            return loss(code, penalties), (code, {n: value for n, (_, value) in penalties.items()})

        gradient, (code, values) = jax.grad(run, has_aux=True)(jnp.asarray(x))
        ours = {**code._asdict(), **values, "gradient": gradient}
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
_CHANNELS = 12
"""Of what is normalised: of vectors [4, 12], and of images [4, 3, 2, 12]."""


def _norms() -> dict[str, tuple[Norm, int, tuple[int, ...]]]:
    """Return every kind of the table of cases, on vectors and on images, as its last row there has it."""
    kinds = {part.kind: part for spec in CASES.values() for part in components_of(spec) if isinstance(part, Norm)}
    shapes = {"vectors": (4, _CHANNELS), "images": (4, 3, 2, _CHANNELS)}
    return {f"{k} norm of {w}": (norm, _CHANNELS, shape) for k, norm in kinds.items() for w, shape in shapes.items()}


def _bottlenecks() -> dict[str, tuple[Bottleneck, tuple[int, ...], dict[str, tuple[int, ...]]]]:
    """Return every kind of the table and set of coefficients, its row's features, and the shapes of its noise."""
    found = {}
    for spec in CASES.values():
        part = spec.bottleneck
        sites = {name: site.shape for name, site in part.noise_sites(spec).items()}
        row = part, spec.backbone.feature_shape(spec.input_shape), sites
        found[" ".join([f"{part.kind} code", *sorted(part.coefficients)])] = row
    return found


def _likelihoods() -> dict[str, Likelihood]:
    """Return every kind of the table, as its last row there has it, with either reduction."""
    kinds: dict[str, Any] = {spec.likelihood.kind: spec.likelihood for spec in CASES.values()}
    reductions = get_args(Reduction)
    return {
        f"{kind}, {reduction}": replace(part, reduction=reduction) if hasattr(part, "reduction") else part
        for kind, part in kinds.items()
        for reduction in reductions
    }


_NORMS, _BOTTLENECKS, _LIKELIHOODS = _norms(), _bottlenecks(), _likelihoods()

SINGLE_LAYERS: dict[str, Callable[[], list[Check]]] = {
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
    **{name: partial(check_norm, *row) for name, row in _NORMS.items()},
    **{f"{name}, evaluated": partial(check_norm, *row, train=False) for name, row in _NORMS.items()},
    # not of groups: PyTorch's own gradient of group norm of images subtracts such squares, and is off by 3e-8 at 1e4
    "batch norm far from 0": partial(check_norm, BatchNorm(1e-3, 0.3), 24, (24, 24), offset=OFFSET),
    "layer norm far from 0": partial(check_norm, LayerNorm(1e-3), 24, (24, 24), offset=OFFSET),
    **{name: partial(check_activation, name) for name in _ACTIVATIONS},
    **{name: partial(check_likelihood, likelihood, *_pixels()) for name, likelihood in _LIKELIHOODS.items()},
    "bernoulli, saturated": partial(check_likelihood, BernoulliLikelihood("sum"), *_saturated()),
    **{f"{name}, noise": partial(check_bottleneck, *row) for name, row in _BOTTLENECKS.items() if row[2]},
    **{name: partial(check_bottleneck, *row[:2], {}) for name, row in _BOTTLENECKS.items()},
}
"""Every comparison of a single layer, by name."""
