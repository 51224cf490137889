"""Keras 3 as one would write it, on the backend named by KERAS_BACKEND: a functional model and `train_on_batch`.

The loss, initial weights, batches and noise are ours. Keras' own Adam adds eps before the bias correction, which makes
it another optimiser; the one here adds eps where the paper does. On PyTorch it updates the variables one by one, where
Keras' own updates them in groups.
"""

from typing import Any

import keras
import numpy as np
from jaxtyping import Float
from keras import layers, ops

from ae_core.commands.cli import load_engine
from ae_core.spec import Adam as AdamSpec
from ae_core.spec import ConvBackbone, GaussianBottleneck, Spec
from benchmarks.race.sides import Runner
from benchmarks.race.sides.peer import check_common, check_keras, expect
from benchmarks.race.workloads import Material, Workload, material, with_noise


class Adam(keras.optimizers.Adam):
    """Adam with eps added to the corrected root. Source: Kingma & Ba (2015), algorithm 1."""

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        """Update one variable."""
        step = ops.cast(self.iterations + 1, variable.dtype)
        m = self._momentums[self._get_variable_index(variable)]
        v = self._velocities[self._get_variable_index(variable)]
        self.assign_add(m, (gradient - m) * (1 - self.beta_1))
        self.assign_add(v, (ops.square(gradient) - v) * (1 - self.beta_2))
        root = ops.sqrt(v / (1 - ops.power(ops.cast(self.beta_2, variable.dtype), step)))
        mean = m / (1 - ops.power(ops.cast(self.beta_1, variable.dtype), step))
        self.assign_sub(variable, ops.cast(learning_rate, variable.dtype) * mean / (root + self.epsilon))


class Penalty(layers.Layer):
    """z = mean + exp(½·logvar)·noise; adds the divergence from the prior to the loss."""

    def __init__(self, weight: float) -> None:
        super().__init__()
        self.weight = weight

    def call(self, inputs: Any) -> Any:
        """Return z."""
        mean, logvar, noise = inputs
        kl = -0.5 * ops.sum(1 + logvar - ops.square(mean) - ops.exp(logvar), axis=-1)
        self.add_loss(self.weight * ops.mean(kl))
        return mean + ops.exp(0.5 * logvar) * noise


def build(spec: Spec) -> tuple[keras.Model, dict[str, layers.Layer]]:
    """Return the model of a convolutional spec with relu, padding "same" and no norms, and its layers by name.

    Raises:
        SpecError: the spec is of another kind.
    """
    check_keras(spec)
    backbone = expect(spec.backbone, ConvBackbone)
    named: dict[str, layers.Layer] = {}

    def add(name: str, layer: layers.Layer) -> layers.Layer:
        named[name] = layer
        return layer

    image, noise = keras.Input(spec.input_shape), keras.Input(spec.latent_shape)
    common: dict[str, Any] = {"kernel_size": backbone.kernel, "padding": "same"}
    y = image
    for i, (channels, stride) in enumerate(zip(backbone.channels, backbone.strides, strict=True)):
        conv = layers.Conv2D(channels, strides=stride, activation="relu", **common)
        y = add(f"encoder.blocks.{i}.conv", conv)(y)
    inner = y.shape[1:]
    y = layers.Flatten()(y)
    latent = spec.latent_size
    if isinstance(spec.bottleneck, GaussianBottleneck):
        mean = add("bottleneck.mean", layers.Dense(latent))(y)
        logvar = add("bottleneck.logvar", layers.Dense(latent))(y)
        y = Penalty(spec.last_coefficients["kl"])([mean, logvar, noise])
    else:
        y = add("bottleneck.code", layers.Dense(latent))(y)
    y = layers.Reshape(inner)(add("decoder.inner", layers.Dense(int(np.prod(inner))))(y))
    for i, (channels, stride) in enumerate(zip(reversed(backbone.channels), reversed(backbone.strides), strict=True)):
        conv = layers.Conv2DTranspose(channels, strides=stride, activation="relu", **common)
        y = add(f"decoder.blocks.{i}.conv", conv)(y)
    y = add("decoder.output", layers.Conv2D(spec.input_shape[2], **common))(y)
    given = [image, noise] if isinstance(spec.bottleneck, GaussianBottleneck) else [image]
    return keras.Model(given, y), named


class Training:
    """Training steps, one call of Keras each."""

    def __init__(self, workload: Workload, arrays: Material) -> None:
        spec = workload.spec
        likelihood, optimizer = check_common(spec, constant=True), expect(spec.training.optimizer, AdamSpec)
        self.model, named = build(spec)
        for name, layer in named.items():
            weight, bias = (arrays.tensors[0][f"{name}.{kind}"] for kind in ("weight", "bias"))
            # Keras has [height, width, in, out], of a transposed convolution [height, width, out, in]
            layer.set_weights([weight.transpose(*range(2, weight.ndim), 1, 0), bias])
        sums = likelihood.reduction == "sum"
        factor = likelihood.weight * (np.prod(spec.input_shape) if sums else 1)

        def loss(images: Any, logits: Any) -> Any:
            errors = ops.binary_crossentropy(images, logits, from_logits=True)
            return factor * ops.mean(errors, axis=(1, 2, 3))

        adam = Adam(optimizer.learning_rate, optimizer.b1, optimizer.b2, optimizer.eps)
        self.model.compile(optimizer=adam, loss=loss)
        self.images, self.steps = arrays.images, with_noise(arrays.steps, spec)

    def take(self, steps: int, first: int = 0) -> Float[np.ndarray, " K"]:
        """Return the loss of each step."""
        losses = []
        for i in range(first, first + steps):
            row = i % len(self.steps.indices)
            batch = self.images[self.steps.indices[row]]
            noise = [values[row].astype(np.float32) for values in self.steps.noise.values()]
            given = [batch, *noise] if noise else batch
            self.model.reset_metrics()  # else it returns the mean of all losses so far
            losses.append(float(self.model.train_on_batch(given, batch)))
        return np.array(losses)

    def settle(self) -> None:
        """Nothing is under way: every call has returned a number."""


def open_runner(workload: Workload, variant: str) -> Runner:
    """Return the runner."""
    shapes = load_engine(keras.backend.backend()).shapes(workload.spec)
    return Training(workload, material(workload, shapes))
