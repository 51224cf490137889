"""Flax as one would write it: `nn.Conv`, `nn.ConvTranspose`, `nn.Dense`, optax, one jitted step.

The loss, initial weights, batches and noise are ours, so that the losses can be compared with the reference. Kernels
only need their axes in Flax's order.
"""

from collections.abc import Callable
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn
from jax import lax
from jaxtyping import Array, Float

from ae_core.spec import Adam, Constant, ConvBackbone, DenseBackbone, GaussianBottleneck, Spec
from ae_jax.engine import ENGINE
from benchmarks.race.sides import Runner
from benchmarks.race.sides.peer import check_common, check_flax, expect
from benchmarks.race.workloads import Material, Workload, material, with_noise

ACTIVATIONS: dict[str, Callable[[Array], Array]] = {"relu": nn.relu, "gelu_tanh": nn.gelu}
"""As Flax has them by default; `benchmarks.race.sides.peer.FLAX_ACTIVATIONS` has their names."""


def _backbone(spec: Spec) -> ConvBackbone | DenseBackbone:
    return cast(ConvBackbone | DenseBackbone, expect(spec.backbone, ConvBackbone, DenseBackbone))


class Model(nn.Module):
    """Encoder and decoder of a spec with padding "same" and no norms; returns logits and the weighted KL term."""

    spec: Spec

    @nn.compact
    def __call__(  # noqa: D102
        self, x: Float[Array, "B H W C"], noise: dict[str, Float[Array, "B L"]]
    ) -> tuple[Array, Array]:
        backbone, latent = _backbone(self.spec), self.spec.latent_size
        activation = ACTIVATIONS[backbone.activation]
        y = x
        if isinstance(backbone, ConvBackbone):
            side = (backbone.kernel, backbone.kernel)
            for i, (channels, stride) in enumerate(zip(backbone.channels, backbone.strides, strict=True)):
                y = activation(nn.Conv(channels, side, (stride, stride), name=f"encoder.blocks.{i}.conv")(y))
        inner = y.shape[1:]
        y = y.reshape(len(y), -1)
        if isinstance(backbone, DenseBackbone):
            for i, width in enumerate(backbone.hidden):
                y = activation(nn.Dense(width, name=f"encoder.blocks.{i}.linear")(y))
        penalty = jnp.zeros(())
        if isinstance(self.spec.bottleneck, GaussianBottleneck):
            mean = nn.Dense(latent, name="bottleneck.mean")(y)
            logvar = nn.Dense(latent, name="bottleneck.logvar")(y)
            y = mean + jnp.exp(0.5 * logvar) * noise["bottleneck"]
            kl = -0.5 * (1 + logvar - mean**2 - jnp.exp(logvar)).sum(-1)
            penalty = self.spec.last_coefficients["kl"] * kl.mean()
        else:
            y = nn.Dense(latent, name="bottleneck.code")(y)
        if isinstance(backbone, ConvBackbone):
            y = nn.Dense(int(np.prod(inner)), name="decoder.inner")(y).reshape(-1, *inner)
            pairs = zip(reversed(backbone.channels), reversed(backbone.strides), strict=True)
            for i, (channels, stride) in enumerate(pairs):
                name = f"decoder.blocks.{i}.conv"
                # transpose_kernel: the kernel is that of the convolution whose adjoint this is, as in both twins
                layer = nn.ConvTranspose(channels, side, (stride, stride), transpose_kernel=True, name=name)
                y = activation(layer(y))
            return nn.Conv(x.shape[-1], side, name="decoder.output")(y), penalty
        for i, width in enumerate(reversed(backbone.hidden)):
            y = activation(nn.Dense(width, name=f"decoder.blocks.{i}.linear")(y))
        return nn.Dense(int(np.prod(x.shape[1:])), name="decoder.output")(y).reshape(x.shape), penalty


class Training:
    """Training steps: one jitted step in a Python loop, or all of them in one `lax.scan`."""

    def __init__(self, workload: Workload, arrays: Material, scan: bool) -> None:
        spec, steps = workload.spec, with_noise(arrays.steps, workload.spec)
        check_flax(spec)
        likelihood, adam = check_common(spec), expect(spec.training.optimizer, Adam)
        model, reduce = Model(spec), jnp.mean if likelihood.reduction == "mean" else jnp.sum
        rates = jnp.asarray(steps.learning_rates, jnp.float32)
        constant = spec.training.schedule == Constant()
        schedule = adam.learning_rate if constant else lambda i: rates[i % len(rates)]
        optimizer = optax.adam(schedule, b1=adam.b1, b2=adam.b2, eps=adam.eps)
        forward: Callable[..., Any] = model.apply
        self.scan, self.count = scan, len(steps.sizes)
        self.images, self.indices = jnp.asarray(arrays.images), jnp.asarray(steps.indices)
        self.noise = {site: jnp.asarray(values, jnp.float32) for site, values in steps.noise.items()}
        params = parameters(arrays.tensors[0])
        self.state = params, optimizer.init(params)

        def step(state: tuple, batch: tuple) -> tuple:  # type: ignore[type-arg]
            indices, noise = batch
            images = self.images[indices]

            def loss(params: dict) -> Array:  # type: ignore[type-arg]
                logits, penalty = forward({"params": params}, images, noise)
                errors = optax.sigmoid_binary_cross_entropy(logits, images)
                return likelihood.weight * reduce(errors, axis=(1, 2, 3)).mean() + penalty

            params, memory = state
            value, grads = jax.value_and_grad(loss)(params)
            updates, memory = optimizer.update(grads, memory, params)
            return (optax.apply_updates(params, updates), memory), value

        self.step = jax.jit(step)
        self.steps = jax.jit(lambda state, batches: lax.scan(step, state, batches))

    def take(self, steps: int, first: int = 0) -> Float[np.ndarray, " K"]:
        """Return the loss of each step."""
        rows = np.arange(first, first + steps) % self.count
        if self.scan:
            self.state, losses = self.steps(self.state, self._batch(rows))
            return np.asarray(losses)
        values = []
        for row in rows:
            self.state, value = self.step(self.state, self._batch(row))
            values.append(value)
        return np.asarray(jnp.stack(values))

    def _batch(self, rows: Any) -> tuple[Array, dict[str, Array]]:
        return self.indices[rows], {site: values[rows] for site, values in self.noise.items()}

    def settle(self) -> None:
        """Wait for the weights."""
        jax.block_until_ready(self.state)


def parameters(tensors: dict[str, np.ndarray]) -> dict[str, dict[str, Array]]:
    """Return Flax's parameters: kernels are [in, out] or [height, width, in, out], in and out exchanged in a transposed
    convolution."""
    found: dict[str, dict[str, Array]] = {}
    for name, tensor in tensors.items():
        layer, _, kind = name.rpartition(".")
        axes = (*range(2, tensor.ndim), 1, 0) if tensor.ndim > 1 else (0,)
        leaf = {"weight": "kernel", "bias": "bias"}[kind]
        found.setdefault(layer, {})[leaf] = jnp.asarray(tensor.transpose(axes))
    return found


def open_runner(workload: Workload, variant: str) -> Runner:
    """Return the runner of a variant."""
    return Training(workload, material(workload, ENGINE.shapes(workload.spec)), variant == "scan")
