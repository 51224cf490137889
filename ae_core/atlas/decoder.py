"""The decoder as a list of steps that a web page can carry out, and that NumPy carries out in the same way.

Both hold pictures as [H, W, C], numbers of the steps in float64 and weights as they are stored, so that what is
measured here of the distance to the true decoder is so in the page, but for the last digits of float64.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from jaxtyping import Float, Float64
from scipy.special import erf, expit

from ae_core.spec import Activation, BatchNorm, BernoulliLikelihood, ConvBackbone, DenseBackbone, GroupNorm, Norm, Spec
from ae_core.spec.geometry import code_shape, crops, pads

Storage = Literal["float64", "float32", "float16"]
"""How weights are stored."""


@dataclass(frozen=True)
class Linear:
    """y = x·W + b, with W [in, out]."""

    weight: Float[np.ndarray, "I O"]
    bias: Float[np.ndarray, " O"]

    op = "linear"

    def run(self, x: Float64[np.ndarray, "N h w c"]) -> Float64[np.ndarray, "N 1 1 O"]:
        """Apply to flattened pictures."""
        return (x.reshape(len(x), -1) @ _wide(self.weight) + self.bias)[:, None, None]


@dataclass(frozen=True)
class Reshape:
    """Numbers as a picture of this height and width; the channels come last."""

    size: tuple[int, int]

    op = "reshape"

    def run(self, x: Float64[np.ndarray, "N h w c"]) -> Float64[np.ndarray, "N H W C"]:
        """Reshape."""
        return x.reshape(len(x), *self.size, -1)


@dataclass(frozen=True)
class Spread:
    """y[stride·p + t − before] += x[p]·W[t], over pixels p and taps t: a transposed convolution.

    A convolution of stride 1 is one, too, with its kernel turned by 180°.
    """

    weight: Float[np.ndarray, "k k I O"]
    bias: Float[np.ndarray, " O"]
    stride: int
    before: int

    op = "spread"

    def run(self, x: Float64[np.ndarray, "N h w I"]) -> Float64[np.ndarray, "N H W O"]:
        """Spread each pixel over its surroundings."""
        n, h, w, _ = x.shape
        s, k = self.stride, len(self.weight)
        full = np.zeros((n, h * s + k, w * s + k, self.weight.shape[-1]))
        for t in range(k):
            for r in range(k):
                full[:, t : t + s * h : s, r : r + s * w : s] += x @ _wide(self.weight[t, r])
        return full[:, self.before : self.before + s * h, self.before : self.before + s * w] + self.bias


@dataclass(frozen=True)
class Scale:
    """y = x·weight + bias, for each channel: batch normalisation by its running statistics."""

    weight: Float[np.ndarray, " C"]
    bias: Float[np.ndarray, " C"]

    op = "scale"

    def run(self, x: Float64[np.ndarray, "N h w C"]) -> Float64[np.ndarray, "N h w C"]:
        """Scale and shift."""
        return x * self.weight + self.bias


@dataclass(frozen=True)
class Normalise:
    """(x − μ)/√(σ² + eps)·weight + bias, over positions and the channels of one group.

    No groups stands for layer normalisation: over all channels, at each position by itself.
    """

    weight: Float[np.ndarray, " C"]
    bias: Float[np.ndarray, " C"]
    groups: int
    eps: float

    op = "normalise"

    def run(self, x: Float64[np.ndarray, "N h w C"]) -> Float64[np.ndarray, "N h w C"]:
        """Normalise."""
        shape = (*x.shape[:3], max(self.groups, 1), -1)
        axes = (1, 2, 4) if self.groups else (4,)
        y = x.reshape(shape)
        y = y - y.mean(axes, keepdims=True)
        y = y / np.sqrt((y**2).mean(axes, keepdims=True) + self.eps)
        return y.reshape(x.shape) * self.weight + self.bias


@dataclass(frozen=True)
class Activate:
    """A function of each number by itself."""

    name: Activation | Literal["sigmoid"]
    slope: float

    op = "activate"

    def run(self, x: Float64[np.ndarray, "N h w C"]) -> Float64[np.ndarray, "N h w C"]:
        """Apply."""
        match self.name:
            case "relu":
                return np.maximum(x, 0)
            case "leaky_relu":
                return np.where(x > 0, x, self.slope * x)
            case "silu":
                return x * expit(x)
            case "gelu_erf":
                return 0.5 * x * (1 + erf(x / math.sqrt(2)))
            case "gelu_tanh":
                return 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))
            case "sigmoid":
                return expit(x)


Step = Linear | Reshape | Spread | Scale | Normalise | Activate


@dataclass(frozen=True)
class Program:
    """A decoder."""

    steps: tuple[Step, ...]

    def decode(self, z: Float[np.ndarray, "N L"]) -> Float64[np.ndarray, "N H W C"]:
        """Return the images that codes stand for, as the page makes them."""
        parts = []
        for start in range(0, len(z), 16):
            x = z[start : start + 16, None, None].astype(np.float64)
            for step in self.steps:
                x = step.run(x)
            parts.append(x)
        return np.concatenate(parts)

    def arrays(self) -> list[np.ndarray]:
        """Return weights and biases, in the order of the steps."""
        weighted = [step for step in self.steps if not isinstance(step, Reshape | Activate)]
        return [array for step in weighted for array in (step.weight, step.bias)]

    def work(self) -> int:
        """Return the products that one picture takes."""
        products, pixels = 0, 1
        for step in self.steps:
            match step:
                case Reshape(size):
                    pixels = math.prod(size)
                case Linear(weight) | Spread(weight):
                    products += pixels * weight.size
                    pixels *= step.stride**2 if isinstance(step, Spread) else 1
        return products

    def described(self) -> list[dict[str, Any]]:
        """Return the steps as JSON values; of an array its shape stands for it."""
        return [
            {"op": step.op}
            | {name: list(v.shape) if isinstance(v, np.ndarray) else v for name, v in vars(step).items()}
            for step in self.steps
        ]


def decoder_program(spec: Spec, tensors: Mapping[str, np.ndarray], storage: Storage) -> Program:
    """Return the decoder of a weights file, its weights rounded to what the page stores."""
    kept = {name: t for name, t in tensors.items() if name.startswith("decoder.")}
    match spec.backbone:
        case DenseBackbone():
            steps = _dense(spec, spec.backbone, kept)
        case ConvBackbone():
            steps = _conv(spec, spec.backbone, kept)
    if isinstance(spec.likelihood, BernoulliLikelihood):
        steps.append(Activate("sigmoid", 0.0))
    return Program(tuple(_rounded(step, storage) for step in steps))


def _dense(spec: Spec, backbone: DenseBackbone, tensors: Mapping[str, np.ndarray]) -> list[Step]:
    steps: list[Step] = []
    for i in range(len(backbone.hidden)):
        block = f"decoder.blocks.{i}"
        steps.append(_linear(tensors, f"{block}.linear"))
        steps += _after(backbone, tensors, block)
    return [*steps, _linear(tensors, "decoder.output"), Reshape(spec.input_shape[:2])]


def _conv(spec: Spec, backbone: ConvBackbone, tensors: Mapping[str, np.ndarray]) -> list[Step]:
    steps: list[Step] = [_linear(tensors, "decoder.inner"), Reshape(code_shape(backbone, spec.input_shape)[:2])]
    for i, stride in enumerate(reversed(backbone.strides)):
        block = f"decoder.blocks.{i}"
        weight = tensors[f"{block}.conv.weight"].transpose(2, 3, 0, 1)
        before, _ = crops(backbone.kernel, stride, backbone.padding)
        steps.append(Spread(weight, _bias(tensors, f"{block}.conv", weight.shape[-1]), stride, before))
        steps += _after(backbone, tensors, block)
    weight = tensors["decoder.output.weight"].transpose(2, 3, 1, 0)[::-1, ::-1]
    before = backbone.kernel - 1 - pads(backbone.kernel, 1, backbone.padding)[0]
    return [*steps, Spread(weight, _bias(tensors, "decoder.output", weight.shape[-1]), 1, before)]


def _after(backbone: DenseBackbone | ConvBackbone, tensors: Mapping[str, np.ndarray], block: str) -> list[Step]:
    norm = [] if backbone.norm is None else [_norm(backbone.norm, tensors, f"{block}.norm")]
    return [*norm, Activate(backbone.activation, backbone.negative_slope)]


def _norm(norm: Norm, tensors: Mapping[str, np.ndarray], name: str) -> Step:
    weight, bias = (tensors[f"{name}.{part}"].astype(np.float64) for part in ("weight", "bias"))
    if isinstance(norm, BatchNorm):
        scale = weight / np.sqrt(tensors[f"{name}.running_var"].astype(np.float64) + norm.eps)
        return Scale(scale, bias - tensors[f"{name}.running_mean"] * scale)
    return Normalise(weight, bias, norm.groups if isinstance(norm, GroupNorm) else 0, norm.eps)


def _linear(tensors: Mapping[str, np.ndarray], name: str) -> Linear:
    weight = tensors[f"{name}.weight"].T
    return Linear(weight, _bias(tensors, name, weight.shape[-1]))


def _bias(tensors: Mapping[str, np.ndarray], name: str, size: int) -> np.ndarray:
    bias = tensors.get(f"{name}.bias")
    return np.zeros(size, np.float32) if bias is None else bias


def _rounded(step: Step, storage: Storage) -> Step:
    if isinstance(step, Reshape | Activate):
        return step
    with np.errstate(over="ignore"):  # whoever stores them looks for infinities
        weight, bias = (np.ascontiguousarray(array, storage) for array in (step.weight, step.bias))
    return replace(step, weight=weight, bias=bias)


def _wide(weight: np.ndarray) -> Float64[np.ndarray, "..."]:
    return weight.astype(np.float64)
