"""Which steps a decoder is made of: three doors, for the backbone, its norms and the likelihood's mean.

A plugin that brings a component of its own registers the steps of its decoder from outside, on the component's class,
and reads its tensors under the names that they have in the weights file::

    from ae_core.atlas import Linear, Reshape, Step, activation_step, backbone_steps, linear_step

    @backbone_steps.register
    def _(backbone: MyBackbone, spec: Spec, tensors: Tensors) -> list[Step]:
        hidden = linear_step(tensors, "decoder.hidden")
        return [hidden, activation_step("relu"), linear_step(tensors, "decoder.output"), Reshape(spec.input_shape[:2])]

The first step is given a code as a row of numbers, [L]; the last leaves a picture [H, W, C], of logits or means. Steps
are the classes of `ae_core.atlas.steps`, since JavaScript has to know each. A component without steps of its own, also
where it is a subclass of one that has some, is one that the page cannot decode: an atlas then blends pictures that the
model made, as it does where the steps turn out to make other pictures than the model.
"""

from collections.abc import Callable, Mapping
from functools import singledispatch
from typing import Any

import numpy as np

from ae_core.atlas.steps import ACTIVATIONS, Activate, DecoderSteps, Linear, Normalise, Reshape, Scale, Spread, Step
from ae_core.spec import (
    BatchNorm,
    BernoulliLikelihood,
    ConvBackbone,
    DenseBackbone,
    GaussianLikelihood,
    GroupNorm,
    LayerNorm,
    Spec,
)
from ae_core.spec.component import missing
from ae_core.spec.geometry import crops, pads

Tensors = Mapping[str, np.ndarray]
"""The tensors of a weights file: PyTorch's names and layouts."""


class NoSteps(Exception):
    """A decoder that the page cannot carry out as the model does; the message says why."""


@singledispatch
def backbone_steps(backbone: Any, spec: Spec, tensors: Tensors) -> list[Step]:
    """Return the decoder's steps from a code to logits or means.

    Raises:
        MissingError: none are registered for this kind of backbone, or for a part of it.
    """
    raise missing("ae_core", "backbone_steps", backbone)


@singledispatch
def norm_steps(norm: Any, tensors: Tensors, name: str) -> list[Step]:
    """Return the steps of the normalisation whose tensors are ``name.weight``, ``name.bias`` and so on.

    Raises:
        MissingError: none are registered for this kind of norm.
    """
    raise missing("ae_core", "norm_steps", norm)


@singledispatch
def output_steps(likelihood: Any) -> list[Step]:
    """Return the steps from what the backbone's decoder gives to the mean of the likelihood, which is the image.

    Raises:
        MissingError: none are registered for this kind of likelihood.
    """
    raise missing("ae_core", "output_steps", likelihood)


def decoder_steps(spec: Spec, tensors: Tensors) -> DecoderSteps:
    """Return the decoder of a weights file as steps.

    Raises:
        MissingError: a part of it has no steps.
        NoSteps: it has an activation that the page does not know.
    """
    decoder = {name: tensor for name, tensor in tensors.items() if name.startswith("decoder.")}
    steps = [*_own(backbone_steps, spec.backbone, spec, decoder), *_own(output_steps, spec.likelihood)]
    return DecoderSteps(tuple(steps))


def activation_step(name: str, slope: float = 0.0) -> Activate:
    """Return the step of an activation.

    Raises:
        NoSteps: the page knows none of that name.
    """
    if name not in ACTIVATIONS:
        raise NoSteps(f'activation "{name}" has no step for a page; expected one of {", ".join(ACTIVATIONS)}')
    return Activate(name, slope)


def linear_step(tensors: Tensors, name: str) -> Linear:
    """Return the step of the linear layer of that name; a layer without a bias gets one of zeros."""
    weight = tensors[f"{name}.weight"].T
    return Linear(weight, _bias(tensors, name, weight.shape[-1]))


def _own(door: Callable[..., list[Step]], component: Any, *rest: Any) -> list[Step]:
    """Go through a door by the component's own class: a subclass may compute something else than its parent."""
    if type(component) not in door.registry:  # type: ignore[attr-defined]
        raise missing("ae_core", door.__name__, component)
    return door(component, *rest)


@backbone_steps.register
def _dense(backbone: DenseBackbone, spec: Spec, tensors: Tensors) -> list[Step]:
    steps: list[Step] = []
    for i in range(len(backbone.hidden)):
        block = f"decoder.blocks.{i}"
        steps += [linear_step(tensors, f"{block}.linear"), *_after(backbone, tensors, block)]
    return [*steps, linear_step(tensors, "decoder.output"), Reshape(spec.input_shape[:2])]


@backbone_steps.register
def _conv(backbone: ConvBackbone, spec: Spec, tensors: Tensors) -> list[Step]:
    height, width, _ = spec.input_shape
    for stride in backbone.strides:
        height, width = height // stride, width // stride
    steps: list[Step] = [linear_step(tensors, "decoder.inner"), Reshape((height, width))]
    for i, stride in enumerate(reversed(backbone.strides)):
        block = f"decoder.blocks.{i}"
        weight = tensors[f"{block}.conv.weight"].transpose(2, 3, 0, 1)
        before, _ = crops(backbone.kernel, stride, backbone.padding)
        steps.append(Spread(weight, _bias(tensors, f"{block}.conv", weight.shape[-1]), stride, before))
        steps += _after(backbone, tensors, block)
    weight = tensors["decoder.output.weight"].transpose(2, 3, 1, 0)[::-1, ::-1]
    before = backbone.kernel - 1 - pads(backbone.kernel, 1, backbone.padding)[0]
    return [*steps, Spread(weight, _bias(tensors, "decoder.output", weight.shape[-1]), 1, before)]


def _after(backbone: DenseBackbone | ConvBackbone, tensors: Tensors, block: str) -> list[Step]:
    norm = [] if backbone.norm is None else _own(norm_steps, backbone.norm, tensors, f"{block}.norm")
    return [*norm, activation_step(backbone.activation, backbone.negative_slope)]


@norm_steps.register
def _batch(norm: BatchNorm, tensors: Tensors, name: str) -> list[Step]:
    weight, bias = _affine(tensors, name)
    scale = weight / np.sqrt(tensors[f"{name}.running_var"].astype(np.float64) + norm.eps)
    return [Scale(scale, bias - tensors[f"{name}.running_mean"] * scale)]


@norm_steps.register
def _group(norm: GroupNorm, tensors: Tensors, name: str) -> list[Step]:
    return [Normalise(*_affine(tensors, name), norm.groups, norm.eps)]


@norm_steps.register
def _layer(norm: LayerNorm, tensors: Tensors, name: str) -> list[Step]:
    return [Normalise(*_affine(tensors, name), 0, norm.eps)]


@output_steps.register
def _bernoulli(likelihood: BernoulliLikelihood) -> list[Step]:
    return [Activate("sigmoid")]


@output_steps.register
def _gaussian(likelihood: GaussianLikelihood) -> list[Step]:
    return []


def _affine(tensors: Tensors, name: str) -> tuple[np.ndarray, np.ndarray]:
    return tensors[f"{name}.weight"].astype(np.float64), tensors[f"{name}.bias"].astype(np.float64)


def _bias(tensors: Tensors, name: str, size: int) -> np.ndarray:
    bias = tensors.get(f"{name}.bias")
    return np.zeros(size, np.float32) if bias is None else bias
