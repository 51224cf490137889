"""A spec says everything about an autoencoder and its training, and nothing else does.

Small frozen dataclasses, JSON both ways. Every number on which frameworks disagree by default (eps, momentum,
padding, the form of an activation, the reduction of a loss, the initialiser) stands here, so that no default of a
framework is ever relied on.
"""

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal, get_args

from ae_core.errors import SpecError, nearest
from ae_core.spec.codec import from_json, to_json

Activation = Literal["relu", "leaky_relu", "silu", "gelu_erf", "gelu_tanh"]
Padding = Literal["same", "torch"]
Reduction = Literal["mean", "sum"]
Initializer = Literal["glorot_uniform", "glorot_normal", "he_uniform", "he_normal", "lecun_normal"]
Precision = Literal["float32", "float64"]


# Far beyond what fits any memory; they keep a slip of the keyboard from becoming a crash deep in a framework.
MAX_PIXELS, MAX_WIDTH, MAX_CHANNELS, MAX_KERNEL, MAX_STEPS = 10**8, 2**20, 2**16, 2**10, 2**31


def _check(ok: bool, field: str, given: object, right: str) -> None:
    if not ok or (isinstance(given, float) and not math.isfinite(given)):
        raise SpecError(f"{field}: given {given}; expected {right}")


def _check_integers(field: str, given: tuple[int, ...], least: int, most: int) -> None:
    shown, right = (given[0], "an integer") if len(given) == 1 else (list(given), "integers")
    _check(all(least <= value <= most for value in given), field, shown, f"{right} from {least:,} to {most:,}")


def _check_name(field: str, given: str, choices: object) -> None:
    if given not in get_args(choices):
        raise SpecError(f'{field}: given "{given}"; {nearest(given, get_args(choices))}')


@dataclass(frozen=True)
class BatchNorm:
    """Batch normalisation (Ioffe & Szegedy, 2015) over all axes but the channels."""

    kind: ClassVar[str] = "batch"
    eps: float = 1e-5
    """Added to the variance under the root."""
    momentum: float = 0.1
    """Weight of the new batch in the running statistics: PyTorch's meaning; Flax's is 1 − momentum.
    The running variance is the unbiased one, n/(n−1) times the batch's, in both twins."""

    def __post_init__(self) -> None:
        _check(self.eps > 0, "eps", self.eps, "a number above 0")
        _check(0 < self.momentum <= 1, "momentum", self.momentum, "a number in (0, 1]")


@dataclass(frozen=True)
class GroupNorm:
    """Group normalisation (Wu & He, 2018) over positions and the channels of one group."""

    kind: ClassVar[str] = "group"
    groups: int
    """Number of groups; divides every channel count of the backbone."""
    eps: float = 1e-5
    """Added to the variance under the root."""

    def __post_init__(self) -> None:
        _check_integers("groups", (self.groups,), 1, MAX_CHANNELS)
        _check(self.eps > 0, "eps", self.eps, "a number above 0")


@dataclass(frozen=True)
class LayerNorm:
    """Layer normalisation (Ba et al., 2016) over the channels, at each position by itself."""

    kind: ClassVar[str] = "layer"
    eps: float = 1e-5
    """Added to the variance under the root."""

    def __post_init__(self) -> None:
        _check(self.eps > 0, "eps", self.eps, "a number above 0")


Norm = BatchNorm | GroupNorm | LayerNorm


@dataclass(frozen=True)
class DenseBackbone:
    """Fully connected layers: the encoder has the hidden widths in order, the decoder in reverse."""

    kind: ClassVar[str] = "dense"
    hidden: tuple[int, ...]
    """Widths of the hidden layers; none makes the autoencoder linear."""
    activation: Activation = "relu"
    """After each hidden layer. GELU states its form: gelu_erf is exact, gelu_tanh the approximation."""
    negative_slope: float = 0.01
    """Slope of leaky_relu below 0."""
    norm: Norm | None = None
    """Between a hidden layer and its activation; the layer then has no bias of its own."""

    def __post_init__(self) -> None:
        _check_integers("hidden", self.hidden, 1, MAX_WIDTH)
        _check_name("activation", self.activation, Activation)
        _check(0 <= self.negative_slope <= 1, "negative_slope", self.negative_slope, "a number in [0, 1]")
        _check(bool(self.hidden) or self.norm is None, "norm", self.norm, "null where there is no hidden layer")
        _check_groups(self.norm, "hidden", self.hidden)


@dataclass(frozen=True)
class ConvBackbone:
    """Strided convolutions down, a dense layer, and their transposes up again; a stride-1 convolution ends it."""

    kind: ClassVar[str] = "conv"
    channels: tuple[int, ...]
    """Output channels of the encoder's convolutions; the decoder has them in reverse."""
    strides: tuple[int, ...]
    """Stride of each convolution, one for each entry of channels."""
    kernel: int = 3
    """Side of every kernel, in pixels."""
    padding: Padding = "same"
    """same: TensorFlow's and Flax's rule, the odd pixel goes to the bottom and right; torch: symmetric, with output
    padding in the decoder."""
    activation: Activation = "relu"
    """After each convolution but the last. GELU states its form: gelu_erf is exact, gelu_tanh the approximation."""
    negative_slope: float = 0.01
    """Slope of leaky_relu below 0."""
    norm: Norm | None = None
    """Between a convolution and its activation; the convolution then has no bias of its own."""

    def __post_init__(self) -> None:
        _check(len(self.channels) >= 1, "channels", list(self.channels), "at least one entry")
        _check_integers("channels", self.channels, 1, MAX_CHANNELS)
        _check_integers("strides", self.strides, 1, MAX_KERNEL)
        right = f"one entry for each of the {len(self.channels)} channels"
        _check(len(self.strides) == len(self.channels), "strides", list(self.strides), right)
        _check_integers("kernel", (self.kernel,), 1, MAX_KERNEL)
        _check_name("padding", self.padding, Padding)
        if self.padding == "torch":
            _check(self.kernel % 2 == 1, "kernel", self.kernel, 'odd where padding is "torch"')
        _check_name("activation", self.activation, Activation)
        _check(0 <= self.negative_slope <= 1, "negative_slope", self.negative_slope, "a number in [0, 1]")
        _check_groups(self.norm, "channels", self.channels)


def _check_groups(norm: Norm | None, field: str, widths: tuple[int, ...]) -> None:
    if isinstance(norm, GroupNorm):
        fits = all(width % norm.groups == 0 for width in widths)
        _check(fits, "norm.groups", norm.groups, f"a divisor of all {field} {list(widths)}")


@dataclass(frozen=True)
class PlainBottleneck:
    """A deterministic code: z is a linear function of the encoder's features."""

    kind: ClassVar[str] = "plain"
    latent: int
    """Number of latent dimensions."""

    def __post_init__(self) -> None:
        _check_integers("latent", (self.latent,), 1, MAX_CHANNELS)


@dataclass(frozen=True)
class GaussianBottleneck:
    """A variational code (Kingma & Welling, 2014): z ~ N(mean, exp(logvar)), prior N(0, I)."""

    kind: ClassVar[str] = "gaussian"
    latent: int
    """Number of latent dimensions."""
    kl_weight: float = 1.0
    """Weight of KL(q(z|x) ‖ p(z)), summed over latent dimensions and averaged over the batch (β of a β-VAE)."""

    def __post_init__(self) -> None:
        _check_integers("latent", (self.latent,), 1, MAX_CHANNELS)
        _check(self.kl_weight >= 0, "kl_weight", self.kl_weight, "a number of at least 0")


@dataclass(frozen=True)
class BernoulliLikelihood:
    """Binary cross-entropy on logits, in nats; the reconstruction is sigmoid(logits)."""

    kind: ClassVar[str] = "bernoulli"
    reduction: Reduction = "mean"
    """Over the pixels and channels of one image: their mean or their sum. Over the batch it is always the mean."""
    weight: float = 1.0
    """Weight of this term in the loss."""

    def __post_init__(self) -> None:
        _check_name("reduction", self.reduction, Reduction)
        _check(self.weight > 0, "weight", self.weight, "a number above 0")


@dataclass(frozen=True)
class GaussianLikelihood:
    """(x − mean)² / (2·variance), in nats, without its constant ½·log(2π·variance), which has no gradient."""

    kind: ClassVar[str] = "gaussian"
    variance: float = 0.5
    """Of every pixel; ½ makes the term the squared error."""
    reduction: Reduction = "mean"
    """Over the pixels and channels of one image: their mean or their sum. Over the batch it is always the mean."""
    weight: float = 1.0
    """Weight of this term in the loss."""

    def __post_init__(self) -> None:
        _check(self.variance > 0, "variance", self.variance, "a number above 0")
        _check_name("reduction", self.reduction, Reduction)
        _check(self.weight > 0, "weight", self.weight, "a number above 0")


@dataclass(frozen=True)
class Adam:
    """Adam (Kingma & Ba, 2015, algorithm 1): eps is added to the root of the corrected second moment."""

    kind: ClassVar[str] = "adam"
    learning_rate: float = 1e-3
    """Peak learning rate; the schedule scales it."""
    b1: float = 0.9
    """Decay of the first moment."""
    b2: float = 0.999
    """Decay of the second moment."""
    eps: float = 1e-8
    """Added outside the root."""

    def __post_init__(self) -> None:
        _check(self.learning_rate > 0, "learning_rate", self.learning_rate, "a number above 0")
        _check(0 <= self.b1 < 1, "b1", self.b1, "a number in [0, 1)")
        _check(0 <= self.b2 < 1, "b2", self.b2, "a number in [0, 1)")
        _check(self.eps > 0, "eps", self.eps, "a number above 0")


@dataclass(frozen=True)
class AdamW(Adam):
    """Adam with decoupled weight decay (Loshchilov & Hutter, 2019), on every parameter."""

    kind: ClassVar[str] = "adamw"
    weight_decay: float = 1e-2
    """Each step also takes learning rate × weight_decay × parameter away."""

    def __post_init__(self) -> None:
        super().__post_init__()
        _check(self.weight_decay >= 0, "weight_decay", self.weight_decay, "a number of at least 0")


@dataclass(frozen=True)
class SGD:
    """Gradient descent with heavy-ball momentum: v ← momentum·v + g, parameter ← parameter − learning rate·v."""

    kind: ClassVar[str] = "sgd"
    learning_rate: float = 1e-2
    """Peak learning rate; the schedule scales it."""
    momentum: float = 0.9
    """Share of the last velocity that is kept; without dampening, not Nesterov's."""

    def __post_init__(self) -> None:
        _check(self.learning_rate > 0, "learning_rate", self.learning_rate, "a number above 0")
        _check(0 <= self.momentum < 1, "momentum", self.momentum, "a number in [0, 1)")


@dataclass(frozen=True)
class Schedule:
    """The factor by which the learning rate is scaled at each step."""

    shape: Literal["constant", "cosine"] = "constant"
    """After the warm-up: constant, or half a cosine from 1 to final over the remaining steps of the training."""
    warmup_steps: int = 0
    """Linear warm-up: step t < warmup_steps is scaled by (t + 1) / warmup_steps."""
    final: float = 0.0
    """Where the cosine ends."""

    def __post_init__(self) -> None:
        _check_name("shape", self.shape, Literal["constant", "cosine"])
        _check_integers("warmup_steps", (self.warmup_steps,), 0, MAX_STEPS)
        _check(0 <= self.final <= 1, "final", self.final, "a number in [0, 1]")


@dataclass(frozen=True)
class Training:
    """How the autoencoder is trained."""

    optimizer: Adam | AdamW | SGD = Adam()
    """Which optimiser, with every hyper-parameter."""
    schedule: Schedule = Schedule()
    """How the learning rate goes."""
    clip_norm: float | None = None
    """Gradients of a larger global Euclidean norm are scaled down to it."""
    batch_size: int = 128
    """Images a step; the last batch of an epoch may be shorter and is never dropped."""
    epochs: int = 10
    """Passes over the training images."""
    precision: Precision = "float32"
    """Of parameters, activations and optimiser state alike."""

    def __post_init__(self) -> None:
        _check(self.clip_norm is None or self.clip_norm > 0, "clip_norm", self.clip_norm, "a number above 0, or null")
        _check_integers("batch_size", (self.batch_size,), 1, MAX_STEPS)
        _check_integers("epochs", (self.epochs,), 1, MAX_STEPS)
        _check_name("precision", self.precision, Precision)


@dataclass(frozen=True)
class Spec:
    """One autoencoder and its training."""

    input_shape: tuple[int, int, int]
    """Height, width and channels of an image."""
    backbone: DenseBackbone | ConvBackbone
    """The layers of encoder and decoder."""
    bottleneck: PlainBottleneck | GaussianBottleneck
    """What lies between them."""
    likelihood: BernoulliLikelihood | GaussianLikelihood = BernoulliLikelihood()
    """How a reconstruction is judged."""
    initializer: Initializer = "glorot_uniform"
    """Of every kernel and matrix; biases start at 0, norm weights at 1."""
    training: Training = Training()
    """How it is trained."""

    def __post_init__(self) -> None:
        fits = len(self.input_shape) == 3 and all(side >= 1 for side in self.input_shape)
        _check(fits, "input_shape", list(self.input_shape), "[height, width, channels], each at least 1")
        small = math.prod(self.input_shape) <= MAX_PIXELS
        _check(small, "input_shape", list(self.input_shape), f"at most {MAX_PIXELS:,} numbers an image")
        _check_name("initializer", self.initializer, Initializer)
        if isinstance(self.backbone, ConvBackbone):
            size = self.input_shape[:2]
            for i, stride in enumerate(self.backbone.strides):
                divides = all(side % stride == 0 for side in size)
                right = f"a divisor of both sides of the {size[0]}×{size[1]} pixels that reach this convolution"
                _check(divides, f"backbone.strides[{i}]", stride, right)
                size = (size[0] // stride, size[1] // stride)

    @property
    def couples_samples(self) -> bool:
        """Whether a training step is more than the mean over independent samples: batch norm makes them meet."""
        return isinstance(self.backbone.norm, BatchNorm)


def spec_to_json(spec: Spec) -> dict[str, Any]:
    """Return the spec as plain JSON values; `spec_from_json` is its inverse."""
    result: dict[str, Any] = to_json(spec)
    return result


def spec_from_json(value: Any, where: str = "spec") -> Spec:
    """Build a spec from plain JSON values.

    Raises:
        SpecError: an unknown key, a wrong type, a bad value or an impossible shape, named with its path.
    """
    return from_json(Spec, value, where)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    keys = [key for key, _ in pairs]
    for key in keys:
        if keys.count(key) > 1:
            raise ValueError(f'the key "{key}" stands twice in one object')
    return dict(pairs)


def load_spec(path: Path) -> Spec:
    """Read a spec from a JSON file.

    Raises:
        SpecError: the file cannot be read, is not JSON, or does not hold a valid spec.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise SpecError(f"{path}: cannot be read as a spec: {reason}") from None
    try:
        value = json.loads(text, object_pairs_hook=_unique)
    except json.JSONDecodeError as error:
        raise SpecError(f"{path}: not JSON: {error.msg} in line {error.lineno}, column {error.colno}") from None
    except (ValueError, RecursionError) as error:  # a key twice, a number too long, a thousand brackets
        raise SpecError(f"{path}: not JSON that can be read: {error}") from None
    return spec_from_json(value, str(path))
