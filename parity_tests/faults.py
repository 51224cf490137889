"""Named faults for either twin, planted by patching, never by a flag of the product.

Each is a difference that is known to slip in between frameworks: the suite has to notice every one of them.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import torch
from torch.nn import functional as F

import ae_jax.bottleneck
import ae_jax.conv
import ae_jax.dispatch
import ae_jax.engine
import ae_jax.layers
import ae_jax.likelihood
import ae_jax.model
import ae_jax.optim
import ae_jax.tensors
import ae_torch.bottleneck
import ae_torch.conv
import ae_torch.engine
import ae_torch.layers
import ae_torch.likelihood
import ae_torch.model
import ae_torch.optim
import ae_torch.training
from ae_core.geometry import crops, pads
from parity_tests.planting import Fault, Patch, after, before, constructor, hyper_at, steps


class _BiasedVariance(ae_torch.layers.BatchNorm):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        old, share, n = self.running_var, self.momentum, x.numel() // x.shape[1]
        assert old is not None
        assert share is not None
        kept = (1 - share) * old.clone()
        y = super().forward(x)
        if self.training and self.running_var is not None:
            self.running_var = kept + (self.running_var - kept) * (n - 1) / n
        return y


class _UnbiasedBatch(ae_torch.layers.BatchNorm):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = super().forward(x)
        n = x.numel() // x.shape[1]
        bias = self.bias.view(1, -1, *(1,) * (x.ndim - 2))
        return (y - bias) * ((n - 1) / n) ** 0.5 + bias if self.training else y


def _no_movedim(self: Any, x: Any, noise: Any = None) -> Any:
    x = x.movedim(-1, 1)
    for block in self.blocks:
        x = block(x)
    return self.bottleneck(x.flatten(1), noise)


def _logstd_torch(self: Any, x: Any, noise: Any = None) -> Any:
    mean, logvar = self.mean(x), self.logvar(x)
    return ae_torch.bottleneck.GaussianCode(mean, logvar, mean if noise is None else mean + torch.exp(logvar) * noise)


def _kl(cls: Any, change: Callable[[Any, Any], Any]) -> list[Patch]:
    """Change the KL term: ``change(value, code)``."""
    return after(
        cls,
        "penalties",
        lambda result, code, bottleneck: {"kl": (result["kl"][0], change(result["kl"][1], code))},
    )


def _nll(cls: Any, change: Callable[..., Any]) -> list[Patch]:
    return after(cls, "negative_log_likelihood", lambda result, self, output, x: change(result, output, x))


def _probabilities(self: Any, output: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    values = F.binary_cross_entropy(torch.sigmoid(output), x, reduction="none")
    return values.mean((1, 2, 3)) if self.reduction == "mean" else values.sum((1, 2, 3))


def _activation(module: Any, name: str, function: Callable[[Any], Any]) -> list[Patch]:
    original = module.layers.make_activation
    make = lambda given, slope: function if given == name else original(given, slope)  # noqa: E731
    return [(part, "make_activation", make) for part in (module.conv, module.dense)]


def _in_float32(self: Any, x: torch.Tensor) -> torch.Tensor:
    bias = None if self.bias is None else self.bias.float()
    return F.linear(x.float(), self.weight.float(), bias).to(x.dtype)


def _torch_clip(parameters: Any, max_norm: float | None) -> None:
    if max_norm is not None:
        torch.nn.utils.clip_grad_norm_(list(parameters), max_norm)


def _coupled(training: Any, parameters: Any) -> torch.optim.Optimizer:
    o = training.optimizer
    return torch.optim.Adam(parameters, lr=0.0, betas=(o.b1, o.b2), eps=o.eps, weight_decay=o.weight_decay)


def _eps_in_the_root(b1: float, b2: float, eps: float) -> Any:
    return optax.scale_by_adam(b1, b2, eps=0.0, eps_root=eps * eps)


def _uncorrected(b1: float, b2: float, eps: float) -> Any:
    correct = _SCALE_BY_ADAM(b1, b2, eps)

    def update(grads: Any, state: Any, params: Any = None) -> Any:
        _, state = correct.update(grads, state, params)
        return jax.tree.map(lambda m, v: m / (jnp.sqrt(v) + eps), state.mu, state.nu), state

    return optax.GradientTransformation(correct.init, update)


_SCALE_BY_ADAM = ae_jax.optim._scale_by_adam


def _stale_moments(functions: Any) -> Any:
    def step(state: Any, batch: Any) -> Any:
        new, terms = functions.step(state, batch)
        fresh = functions.init(new.variables).optimizer
        count = [leaf for leaf in jax.tree.leaves(new.optimizer) if leaf.ndim == 0 and leaf.dtype == jnp.int32]
        kept = jax.tree.map(lambda f: count[0] if count and f.ndim == 0 and f.dtype == jnp.int32 else f, fresh)
        return new._replace(optimizer=kept), terms

    return functions._replace(step=step)


def _forgotten_statistics(functions: Any) -> Any:
    def step(state: Any, batch: Any) -> Any:
        new, terms = functions.step(state, batch)
        variables = {**new.variables, "batch_stats": state.variables["batch_stats"]}
        return new._replace(variables=variables), terms

    return functions._replace(step=step)


def _ignored_mask(functions: Any) -> Any:
    return functions._replace(step=lambda state, batch: functions.step(state, batch._replace(weight=None)))


def _short_batches_skipped(steps: Any) -> Any:
    full = steps.sizes == steps.indices.shape[1]
    # a step of learning rate 0 on some full batch stands for one that is not taken
    return steps._replace(
        sizes=np.full_like(steps.sizes, steps.indices.shape[1]),
        learning_rates=np.where(full, steps.learning_rates, 0.0),
    )


def _accumulating(optimizer: torch.optim.Optimizer) -> torch.optim.Optimizer:
    optimizer.zero_grad = lambda set_to_none=True: None  # type: ignore[method-assign]
    return optimizer


def _nesterov(optimizer: torch.optim.Optimizer) -> torch.optim.Optimizer:
    for group in optimizer.param_groups:
        group["nesterov"] = True
    return optimizer


_T, _J = ae_torch, ae_jax
_BN, _GN, _LN = "conv batch norm", "conv group norm", "conv layer norm"


def _both(name: str, case: str, torch_patches: Callable[[], Any], jax_patches: Callable[[], Any]) -> dict[str, Fault]:
    return {
        f"{name} (torch)": Fault("torch", case, torch_patches),
        f"{name} (jax)": Fault("jax", case, jax_patches),
    }


def _t(name: str, case: str, patches: Callable[[], Any]) -> dict[str, Fault]:
    return {f"{name} (torch)": Fault("torch", case, patches)}


def _j(name: str, case: str, patches: Callable[[], Any]) -> dict[str, Fault]:
    return {f"{name} (jax)": Fault("jax", case, patches)}


def _swap(pair: tuple[int, int], *arguments: Any) -> tuple[int, int]:
    return pair[1], pair[0]


_TABLE: dict[str, Fault] = {
    # where pixels go
    **_both(
        "same padding with the odd pixel first",
        "conv same",
        lambda: after(_T.conv, "pads", _swap),
        lambda: after(_J.conv, "pads", _swap),
    ),
    **_both(
        "transposed padding with the odd pixel first",
        "conv same",
        lambda: after(_T.conv, "crops", _swap),
        lambda: after(_J.conv, "crops", _swap),
    ),
    **_both(
        "torch padding for same",
        "conv same",
        lambda: [
            (_T.conv, "pads", lambda k, s, p: pads(k, s, "torch")),
            (_T.conv, "crops", lambda k, s, p: crops(k, s, "torch")),
        ],
        lambda: [
            (_J.conv, "pads", lambda k, s, p: pads(k, s, "torch")),
            (_J.conv, "crops", lambda k, s, p: crops(k, s, "torch")),
        ],
    ),
    # kernels and layouts
    **_j(
        "transposed kernel not flipped",
        "conv same",
        lambda: before(_J.layers, "transposed_convolution", lambda x, k, *r: (x, jnp.flip(k, (0, 1)), *r)),
    ),
    **_j(
        "kernel flipped",
        "conv torch",
        lambda: before(_J.layers, "convolution", lambda x, k, *r: (x, jnp.flip(k, (0, 1)), *r)),
    ),
    **_j(
        "kernel's height and width exchanged",
        "conv same",
        lambda: [(_J.tensors, "_jax_axes", lambda n: (*range(2, n)[::-1], 1, 0) if n > 1 else (0,))],
    ),
    **_t("flattened channels first", "conv same", lambda: [(_T.conv.ConvEncoder, "forward", _no_movedim)]),
    # normalisation
    **_both(
        "batch norm eps off by 1 %",
        _BN,
        lambda: constructor(_T.layers, "BatchNorm", eps=lambda e: 1.01 * e),
        lambda: constructor(_J.layers, "BatchNorm", eps=lambda e: 1.01 * e),
    ),
    **_both(
        "group norm eps off by 1 %",
        _GN,
        lambda: constructor(_T.layers, "GroupNorm", eps=lambda e: 1.01 * e),
        lambda: constructor(_J.layers, "GroupNorm", eps=lambda e: 1.01 * e),
    ),
    **_both(
        "layer norm eps 1e-6 for 1e-5",
        "dense layer norm",
        lambda: constructor(_T.layers, "LayerNorm", eps=lambda e: 0.1 * e),
        lambda: constructor(_J.layers, "LayerNorm", eps=lambda e: 0.1 * e),
    ),
    **_both(
        "batch norm momentum as its complement",
        _BN,
        lambda: constructor(_T.layers, "BatchNorm", momentum=lambda m: 1 - m),
        lambda: constructor(_J.layers, "BatchNorm", momentum=lambda m: 1 - m),
    ),
    **_both(
        "group norm with half the groups",
        _GN,
        lambda: constructor(_T.layers, "GroupNorm", groups=lambda g: g // 2),
        lambda: constructor(_J.layers, "GroupNorm", groups=lambda g: g // 2),
    ),
    **_t("biased running variance", _BN, lambda: [(_T.layers, "BatchNorm", _BiasedVariance)]),
    **_t("unbiased variance of the batch", _BN, lambda: [(_T.layers, "BatchNorm", _UnbiasedBatch)]),
    **_t(
        "evaluation with the batch's statistics",
        _BN,
        lambda: [(_T.model.Autoencoder, "eval", lambda self: self.train())],
    ),
    **_j(
        "running statistics never updated",
        _BN,
        lambda: after(_J.dispatch, "make_training", lambda f, m: _forgotten_statistics(f)),
    ),
    # activations
    **_both(
        "gelu by tanh for erf",
        "conv gelu_erf",
        lambda: _activation(_T, "gelu_erf", lambda x: F.gelu(x, approximate="tanh")),
        lambda: _activation(_J, "gelu_erf", lambda x: jax.nn.gelu(x, approximate=True)),
    ),
    **_both(
        "leaky_relu with the default slope",
        "conv leaky_relu",
        lambda: _activation(_T, "leaky_relu", F.leaky_relu),
        lambda: _activation(_J, "leaky_relu", jax.nn.leaky_relu),
    ),
    **_both(
        "another slope at the kink of relu",
        "conv same",
        lambda: _activation(_T, "relu", lambda x: torch.maximum(x, torch.zeros_like(x))),
        lambda: _activation(_J, "relu", lambda x: jnp.maximum(x, 0)),
    ),
    # bottleneck and loss
    **_t("log-std for log-variance", "dense vae", lambda: [(_T.bottleneck.GaussianHead, "forward", _logstd_torch)]),
    **_both(
        "KL without its half",
        "dense vae",
        lambda: _kl(_T.bottleneck.GaussianCode, lambda kl, code: 2 * kl),
        lambda: _kl(_J.bottleneck.GaussianCode, lambda kl, code: 2 * kl),
    ),
    **_both(
        "KL averaged over latent dimensions",
        "dense vae",
        lambda: _kl(_T.bottleneck.GaussianCode, lambda kl, code: kl / code.mean.shape[1]),
        lambda: _kl(_J.bottleneck.GaussianCode, lambda kl, code: kl / code.mean.shape[1]),
    ),
    **_both(
        "KL weight ignored",
        "dense vae",
        lambda: after(_T.bottleneck.GaussianCode, "penalties", lambda r, *a: {"kl": (1.0, r["kl"][1])}),
        lambda: after(_J.bottleneck.GaussianCode, "penalties", lambda r, *a: {"kl": (1.0, r["kl"][1])}),
    ),
    **_both(
        "sum over pixels for mean",
        "conv same",
        lambda: _nll(_T.likelihood.Bernoulli, lambda v, output, x: v * x[0].numel()),
        lambda: _nll(_J.likelihood.Bernoulli, lambda v, output, x: v * x[0].size),
    ),
    **_both(
        "squared error with another half",
        "dense 3 channels",
        lambda: _nll(_T.likelihood.Gaussian, lambda v, output, x: v / 2),
        lambda: _nll(_J.likelihood.Gaussian, lambda v, output, x: v / 2),
    ),
    **_t(
        "cross-entropy on clamped probabilities",
        "dense saturated",
        lambda: [(_T.likelihood.Bernoulli, "negative_log_likelihood", _probabilities)],
    ),
    # optimiser
    **_both(
        "Adam eps 1e-7 for 1e-8",
        "conv same",
        lambda: hyper_at(_T.training, _T.optim, eps=1e-7),
        lambda: hyper_at(_J.training, _J.optim, eps=1e-7),
    ),
    **_both(
        "Adam b2 0.9990001 for 0.999",
        "conv same",
        lambda: hyper_at(_T.training, _T.optim, b2=0.9990001),
        lambda: hyper_at(_J.training, _J.optim, b2=0.9990001),
    ),
    **_both(
        "Adam b1 0.95 for 0.9",
        "conv same",
        lambda: hyper_at(_T.training, _T.optim, b1=0.95),
        lambda: hyper_at(_J.training, _J.optim, b1=0.95),
    ),
    **_j("Adam eps inside the root", "conv same", lambda: [(_J.optim, "_scale_by_adam", _eps_in_the_root)]),
    **_j("Adam without bias correction", "conv same", lambda: [(_J.optim, "_scale_by_adam", _uncorrected)]),
    **_both(
        "weight decay 1e-2 for 5e-2",
        "dense vae",
        lambda: hyper_at(_T.training, _T.optim, weight_decay=1e-2),
        lambda: hyper_at(_J.training, _J.optim, weight_decay=1e-2),
    ),
    **_t("weight decay coupled", "dense vae", lambda: [(_T.training, "make_optimizer", _coupled)]),
    **_both(
        "SGD momentum 0.9 for 0.8",
        "dense 3 channels",
        lambda: hyper_at(_T.training, _T.optim, momentum=0.9),
        lambda: hyper_at(_J.training, _J.optim, momentum=0.9),
    ),
    **_t(
        "Nesterov's momentum",
        "dense 3 channels",
        lambda: after(_T.training, "make_optimizer", lambda o, *a: _nesterov(o)),
    ),
    **_t(
        "clipping adds 1e-6 to the norm",
        "dense 3 channels",
        lambda: [(_T.training, "clip_by_global_norm", _torch_clip)],
    ),
    **_j(
        "gradients not clipped",
        "dense 3 channels",
        lambda: [(_J.optim, "clip_by_global_norm", lambda norm: optax.identity())],
    ),
    **_j(
        "gradients clipped one by one",
        "dense 3 channels",
        lambda: [(_J.optim, "clip_by_global_norm", lambda norm: optax.clip_by_block_rms(norm))],
    ),
    **_t(
        "gradients not reset",
        "conv same",
        lambda: after(_T.training, "make_optimizer", lambda o, *a: _accumulating(o)),
    ),
    **_j(
        "moments reset at each step",
        "conv same",
        lambda: after(_J.dispatch, "make_training", lambda f, m: _stale_moments(f)),
    ),
    **_both(
        "learning rate of the step before",
        "dense vae",
        lambda: steps(lambda s: s._replace(learning_rates=np.roll(s.learning_rates, 1) * 0.9), _T.engine),
        lambda: steps(lambda s: s._replace(learning_rates=np.roll(s.learning_rates, 1) * 0.9), _J.engine),
    ),
    # data and noise
    **_both(
        "data off by one",
        "conv same",
        lambda: steps(lambda s: s._replace(indices=(s.indices + 1) % 20), _T.engine),
        lambda: steps(lambda s: s._replace(indices=(s.indices + 1) % 20), _J.engine),
    ),
    **_both(
        "noise of one sample for all",
        "dense vae",
        lambda: steps(lambda s: s._replace(noise=np.repeat(s.noise[:, :1], s.noise.shape[1], 1)), _T.engine),
        lambda: steps(lambda s: s._replace(noise=np.repeat(s.noise[:, :1], s.noise.shape[1], 1)), _J.engine),
    ),
    **_both(
        "last batch dropped",
        "conv same",
        lambda: steps(_short_batches_skipped, _T.engine),
        lambda: steps(_short_batches_skipped, _J.engine),
    ),
    **_j(
        "mask of the last batch ignored",
        "conv same",
        lambda: after(_J.dispatch, "make_training", lambda f, m: _ignored_mask(f)),
    ),
    # precision and weights
    **_t("a layer in float32", "dense silu", lambda: [(_T.layers.Linear, "forward", _in_float32)]),
    **_j(
        "weights narrowed to float32",
        "dense silu",
        lambda: before(_J.engine, "from_tensors", lambda t, p: ({n: a.astype(np.float32) for n, a in t.items()}, p)),
    ),
    **_t(
        "initial weights by another seed",
        "conv same",
        lambda: before(_T.model, "initial_weights", lambda shapes, name, seed: (shapes, name, seed + 1)),
    ),
    **_j(
        "initial weights by another fan",
        "conv he_normal",
        lambda: before(_J.model, "initial_weights", lambda shapes, name, seed: (shapes, "lecun_normal", seed)),
    ),
}

FAULTS: dict[str, Fault] = dict(sorted(_TABLE.items(), key=lambda item: item[1].twin, reverse=True))
"""Every fault by name; those of one twin together, so that what the other has compiled can be kept."""
