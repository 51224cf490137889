"""The autoencoder of a spec: its layers by name, in forward order, and one pass through all of them."""

from itertools import pairwise
from typing import NamedTuple

import numpy as np

from ae_core import spec as specs
from ae_core.spec import Spec
from parity_tests.oracle.activation import Activation
from parity_tests.oracle.layer import Array, Arrays, Layer, Tensors
from parity_tests.oracle.linear import Conv, ConvTranspose, Linear
from parity_tests.oracle.loss import Bernoulli, Gaussian, GaussianCode
from parity_tests.oracle.norm import BatchNorm, GroupNorm, LayerNorm

HEAD = "encoder.bottleneck"


class Result(NamedTuple):
    """One training-mode pass, under the names that the twins' passes have."""

    taps: Arrays
    terms: Arrays
    gradients: Arrays
    state: Arrays


def layers_of(spec: Spec) -> dict[str, Layer]:
    """Return every layer in forward order, under the name of its module; a block's own name is its activation's."""
    layers: dict[str, Layer] = {}
    match spec.backbone:
        case specs.DenseBackbone() as backbone:
            for part, count in (("encoder", len(backbone.hidden)), ("decoder", len(backbone.hidden))):
                for i in range(count):
                    layers |= _block(f"{part}.blocks.{i}", "linear", Linear(), backbone)
                if part == "encoder":
                    layers |= _head(spec)
            layers["decoder.output"] = Linear()
        case specs.ConvBackbone(strides=strides, kernel=kernel, padding=padding) as backbone:
            sizes = [spec.input_shape[:2]]
            for stride in strides:
                sizes.append((sizes[-1][0] // stride, sizes[-1][1] // stride))
            steps = list(zip(sizes, strides, strict=False))
            for i, (wide, stride) in enumerate(steps):
                layers |= _block(f"encoder.blocks.{i}", "conv", Conv(wide, kernel, stride, padding), backbone)
            layers |= _head(spec)
            layers["decoder.inner"] = Linear()
            for i, (wide, stride) in enumerate(reversed(steps)):
                layers |= _block(f"decoder.blocks.{i}", "conv", ConvTranspose(wide, kernel, stride, padding), backbone)
            layers["decoder.output"] = Conv(sizes[0], kernel, 1, padding)
    match spec.likelihood:
        case specs.BernoulliLikelihood(reduction):
            layers["loss"] = Bernoulli(reduction)
        case specs.GaussianLikelihood(variance, reduction):
            layers["loss"] = Gaussian(reduction, variance)
    return layers


def _block(name: str, kind: str, layer: Layer, backbone: specs.DenseBackbone | specs.ConvBackbone) -> dict[str, Layer]:
    layers = {f"{name}.{kind}": layer}
    match backbone.norm:
        case specs.BatchNorm(eps, momentum):
            layers[f"{name}.norm"] = BatchNorm(eps, momentum)
        case specs.GroupNorm(groups, eps):
            layers[f"{name}.norm"] = GroupNorm(eps, groups)
        case specs.LayerNorm(eps):
            layers[f"{name}.norm"] = LayerNorm(eps)
    return {**layers, name: Activation(backbone.activation, backbone.negative_slope)}


def _head(spec: Spec) -> dict[str, Layer]:
    if isinstance(spec.bottleneck, specs.PlainBottleneck):
        return {f"{HEAD}.code": Linear()}
    return {f"{HEAD}.mean": Linear(), f"{HEAD}.logvar": Linear(), HEAD: GaussianCode()}


def parameters_of(name: str, tensors: Tensors, images: np.ndarray, noise: np.ndarray) -> dict[str, Array]:
    """Return a layer's own tensors under their last names, and the constants of a pass, all in float64."""
    own = {key.removeprefix(f"{name}."): value for key, value in tensors.items() if key.startswith(f"{name}.")}
    own = {key: value for key, value in own.items() if "." not in key}
    if name == HEAD:
        own = {"noise": noise}
    if name == "loss":
        own = {"images": images}
    return {key: value.astype(np.float64) for key, value in own.items()}


def run(spec: Spec, tensors: Tensors, images: np.ndarray, noise: np.ndarray, sides: Tensors | None = None) -> Result:
    """Run forward and backward through all layers.

    Args:
        spec: what the layers are.
        tensors: parameters and running statistics.
        images: one batch.
        noise: standard normal numbers for a Gaussian code.
        sides: every module's output in another pass; its signs then say on which side of a kink each number is.
    """
    layers = layers_of(spec)
    net = _Net(layers, {name: parameters_of(name, tensors, images, noise) for name in layers}, {}, {}, {})
    for before, name in pairwise(layers):
        if sides is not None and isinstance(layers[name], Activation):
            net.parameters[name]["side"] = sides[before].astype(np.float64)
    encoder, heads, decoder = (
        [name for name in layers if name.startswith(prefix)] for prefix in ("encoder.blocks", f"{HEAD}.", "decoder.")
    )
    likelihood, bottleneck = spec.likelihood, spec.bottleneck
    gaussian = isinstance(bottleneck, specs.GaussianBottleneck)

    features = net.forward(encoder, images.astype(np.float64))
    code = {name.removeprefix(f"{HEAD}."): net.forward([name], features) for name in heads}
    terms = {}
    if gaussian:
        drawn = net.forward([HEAD], np.concatenate([code["mean"], code["logvar"]], -1))
        code["z"], terms["kl"] = drawn[:-1].reshape(code["mean"].shape), drawn[-1]
    else:
        code = {"z": code["code"]}
    output = net.forward(decoder, code["z"]).reshape(images.shape)
    terms["reconstruction"] = net.forward(["loss"], output)[0]
    kl_weight = bottleneck.kl_weight if isinstance(bottleneck, specs.GaussianBottleneck) else 0.0
    terms["loss"] = likelihood.weight * terms["reconstruction"] + kl_weight * terms.get("kl", 0.0)

    dz = net.backward(decoder, net.backward(["loss"], np.array([likelihood.weight])))
    dcode = np.split(net.backward([HEAD], np.append(dz, kl_weight)), 2, -1) if gaussian else [dz]
    dfeatures = [net.backward([name], dy) for name, dy in zip(heads, dcode, strict=True)]
    net.backward(encoder, np.sum(dfeatures, axis=0))

    taps = {name: value for name, value in net.outputs.items() if name not in (HEAD, "loss")} | {"decoder": output}
    taps |= {f"{place}:{field}": value for place in ("encoder", HEAD) for field, value in code.items()}
    state = {
        f"{name}.{key}": value
        for name, layer in layers.items()
        if isinstance(layer, BatchNorm)
        for key, value in layer.running(net.parameters[name], net.inputs[name]).items()
    }
    return Result(taps, {name: np.array(value) for name, value in terms.items()}, net.gradients, state)


class _Net(NamedTuple):
    """Layers and what has gone through them."""

    layers: dict[str, Layer]
    parameters: dict[str, Arrays]
    inputs: Arrays
    outputs: Arrays
    gradients: Arrays

    def forward(self, names: list[str], x: Array) -> Array:
        for name in names:
            layer = self.layers[name]
            x = self.inputs[name] = _shaped(layer, x)
            x = self.outputs[name] = layer.forward(self.parameters[name], x)
        return x

    def backward(self, names: list[str], dy: Array) -> Array:
        for name in reversed(names):
            dy = dy.reshape(self.outputs[name].shape)
            dy, gradients = self.layers[name].backward(self.parameters[name], self.inputs[name], dy)
            self.gradients.update({f"{name}.{key}": value for key, value in gradients.items()})
        return dy


def _shaped(layer: Layer, x: Array) -> Array:
    """Return x as the layer takes it; vectors and images hold the same numbers in the same order."""
    match layer:
        case Linear():
            return x.reshape(len(x), -1)
        case Conv():
            return x.reshape(len(x), *layer.wide, -1)
        case ConvTranspose():
            return x.reshape(len(x), *layer.narrow, -1)
    return x
