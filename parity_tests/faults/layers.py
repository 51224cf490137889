"""Faults in layers: where pixels go, kernels and layouts, normalisation, activations."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import torch
from flax import linen
from torch.nn import functional as F

import ae_jax.execution.dispatch
import ae_jax.model.conv
import ae_jax.model.dense
import ae_jax.model.layers
import ae_jax.model.norm
import ae_jax.tensors
import ae_torch.model.autoencoder
import ae_torch.model.conv
import ae_torch.model.dense
import ae_torch.model.layers
import ae_torch.model.norm
from ae_core.spec.geometry import crops, pads
from ae_jax.tensors import STATE
from parity_tests.faults.planting import Fault, Patch, after, before, constructor, in_both, in_jax, in_torch

_T, _J = ae_torch, ae_jax
_BN, _GN, _LN = "conv batch norm", "conv group norm", "dense layer norm"


def _swap(pair: tuple[int, int], *arguments: Any) -> tuple[int, int]:
    return pair[1], pair[0]


class _BiasedVariance(ae_torch.model.norm.BatchNorm):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        old, share, n = self.running_var, self.momentum, x.numel() // x.shape[1]
        assert old is not None
        assert share is not None
        kept = (1 - share) * old.clone()
        y = super().forward(x)
        if self.training and self.running_var is not None:
            self.running_var = kept + (self.running_var - kept) * (n - 1) / n
        return y


class _UnbiasedBatch(ae_torch.model.norm.BatchNorm):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = super().forward(x)
        n = x.numel() // x.shape[1]
        bias = self.bias.view(1, -1, *(1,) * (x.ndim - 2))
        return (y - bias) * ((n - 1) / n) ** 0.5 + bias if self.training else y


class _FastVariance(ae_torch.model.norm.LayerNorm):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x.movedim(1, -1)
        mean = x.mean(-1, keepdim=True)
        var = (x**2).mean(-1, keepdim=True) - mean**2
        return ((x - mean) / torch.sqrt(var + self.eps) * self.weight + self.bias).movedim(-1, 1)


class _FastVarianceJax(ae_jax.model.norm.LayerNorm):
    @linen.compact
    def __call__(self, x: Any, mask: Any = None) -> Any:
        mean = x.mean(-1, keepdims=True)
        var = (x**2).mean(-1, keepdims=True) - mean**2
        weight, bias = (
            self.param(name, linen.initializers.zeros, (self.features,), x.dtype) for name in ("weight", "bias")
        )
        return (x - mean) / jnp.sqrt(var + self.eps) * weight + bias


def _no_movedim(self: Any, x: Any, noise: Any) -> Any:
    x = x.movedim(-1, 1)
    for block in self.blocks:
        x = block(x)
    return x.flatten(1).unflatten(1, (*x.shape[2:], x.shape[1]))


def _forgotten_statistics(functions: Any) -> Any:
    def step(state: Any, batch: Any) -> Any:
        new, terms = functions.step(state, batch)
        variables = {**new.variables, STATE: state.variables[STATE]}
        return new._replace(variables=variables), terms

    return functions._replace(step=step)


def _activation(module: Any, name: str, function: Callable[[Any], Any]) -> list[Patch]:
    original = module.model.layers.make_activation
    make = lambda given, slope: function if given == name else original(given, slope)  # noqa: E731
    parts = module.model.layers, module.model.conv, module.model.dense
    return [(part, "make_activation", make) for part in parts]


LAYERS: dict[str, Fault] = {
    # where pixels go
    **in_both(
        "same padding with the odd pixel first",
        "conv same",
        lambda: after(_T.model.conv, "pads", _swap),
        lambda: after(_J.model.conv, "pads", _swap),
    ),
    **in_both(
        "transposed padding with the odd pixel first",
        "conv same",
        lambda: after(_T.model.conv, "crops", _swap),
        lambda: after(_J.model.conv, "crops", _swap),
    ),
    **in_both(
        "torch padding for same",
        "conv same",
        lambda: [
            (_T.model.conv, "pads", lambda k, s, p: pads(k, s, "torch")),
            (_T.model.conv, "crops", lambda k, s, p: crops(k, s, "torch")),
        ],
        lambda: [
            (_J.model.conv, "pads", lambda k, s, p: pads(k, s, "torch")),
            (_J.model.conv, "crops", lambda k, s, p: crops(k, s, "torch")),
        ],
    ),
    # kernels and layouts
    **in_jax(
        "transposed kernel not flipped",
        "conv same",
        lambda: before(_J.model.layers, "transposed_convolution", lambda x, k, *r: (x, jnp.flip(k, (0, 1)), *r)),
    ),
    **in_jax(
        "kernel flipped",
        "conv torch",
        lambda: before(_J.model.layers, "convolution", lambda x, k, *r: (x, jnp.flip(k, (0, 1)), *r)),
    ),
    **in_jax(
        "kernel's height and width exchanged",
        "conv same",
        lambda: [(_J.tensors, "_jax_axes", lambda n: (*range(2, n)[::-1], 1, 0) if n > 1 else (0,))],
    ),
    **in_torch("flattened channels first", "conv same", lambda: [(_T.model.conv.ConvEncoder, "forward", _no_movedim)]),
    # normalisation
    **in_both(
        "batch norm eps off by 1 %",
        _BN,
        lambda: constructor(_T.model.norm, "BatchNorm", eps=lambda e: 1.01 * e),
        lambda: constructor(_J.model.norm, "BatchNorm", eps=lambda e: 1.01 * e),
    ),
    **in_both(
        "group norm eps off by 1 %",
        _GN,
        lambda: constructor(_T.model.norm, "GroupNorm", eps=lambda e: 1.01 * e),
        lambda: constructor(_J.model.norm, "GroupNorm", eps=lambda e: 1.01 * e),
    ),
    **in_both(
        "layer norm eps 1e-6 for 1e-5",
        _LN,
        lambda: constructor(_T.model.norm, "LayerNorm", eps=lambda e: 0.1 * e),
        lambda: constructor(_J.model.norm, "LayerNorm", eps=lambda e: 0.1 * e),
    ),
    **in_both(
        "batch norm momentum as its complement",
        _BN,
        lambda: constructor(_T.model.norm, "BatchNorm", momentum=lambda m: 1 - m),
        lambda: constructor(_J.model.norm, "BatchNorm", momentum=lambda m: 1 - m),
    ),
    **in_both(
        "group norm with half the groups",
        _GN,
        lambda: constructor(_T.model.norm, "GroupNorm", groups=lambda g: g // 2),
        lambda: constructor(_J.model.norm, "GroupNorm", groups=lambda g: g // 2),
    ),
    **in_torch("biased running variance", _BN, lambda: [(_T.model.norm, "BatchNorm", _BiasedVariance)]),
    **in_torch("unbiased variance of the batch", _BN, lambda: [(_T.model.norm, "BatchNorm", _UnbiasedBatch)]),
    **in_torch(
        "evaluation with the batch's statistics",
        _BN,
        lambda: [(_T.model.autoencoder.Autoencoder, "eval", lambda self: self.train())],
    ),
    **in_jax(
        "running statistics never updated",
        _BN,
        lambda: after(_J.execution.dispatch, "make_training", lambda f, *a: _forgotten_statistics(f)),
    ),
    **in_both(
        "fast variance",
        "layer norm far from 0",
        lambda: [(_T.model.norm, "LayerNorm", _FastVariance)],
        lambda: [(_J.model.norm, "LayerNorm", _FastVarianceJax)],
    ),
    # activations
    **in_both(
        "gelu by tanh for erf",
        "conv gelu_erf",
        lambda: _activation(_T, "gelu_erf", lambda x: F.gelu(x, approximate="tanh")),
        lambda: _activation(_J, "gelu_erf", lambda x: jax.nn.gelu(x, approximate=True)),
    ),
    **in_both(
        "leaky_relu with the default slope",
        "conv leaky_relu",
        lambda: _activation(_T, "leaky_relu", F.leaky_relu),
        lambda: _activation(_J, "leaky_relu", jax.nn.leaky_relu),
    ),
    **in_both(
        "another slope at the kink of relu",
        "relu",
        lambda: _activation(_T, "relu", lambda x: torch.maximum(x, torch.zeros_like(x))),
        lambda: _activation(_J, "relu", lambda x: jnp.maximum(x, 0)),
    ),
}
"""By name."""
