"""What is raced: specs, phases and batches, and the same weights, images and steps for every side."""

from abc import abstractmethod
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from jaxtyping import Float, Float32

from ae_core.data.cans import cans
from ae_core.errors import UserError, nearest
from ae_core.noise import draw, key
from ae_core.rng import normal
from ae_core.spec import (
    BernoulliLikelihood,
    ConvBackbone,
    DenseBackbone,
    GaussianBottleneck,
    PlainBottleneck,
    Spec,
    Training,
    spec_from_json,
    spec_to_json,
)
from ae_core.spec.presets import preset
from ae_core.training.engine import Steps
from ae_core.training.initial import initial_weights
from ae_core.training.steps import make_steps

Phase = Literal["train", "encode", "decode", "reconstruct", "many", "quality"]
PairPhase = Literal["forward", "train"]

MANY = 16
"""Models that are trained at once, and steps in their pass over the data set."""
PICTURES = 2_048
"""The most distinct images of a data set; a longer one repeats them."""


@dataclass(frozen=True)
class Timed:
    """Something that is timed, whatever model it is of."""

    name: str
    phase: Phase | PairPhase

    @property
    @abstractmethod
    def batch(self) -> int:
        """Images in one step of one model."""
        raise NotImplementedError

    @property
    def models(self) -> int:
        """Number of models trained at once."""
        return 1

    @property
    def target(self) -> float:
        """Held-out loss at which a training to quality ends."""
        return 0.0

    @property
    def convolves(self) -> bool:
        """Whether the model is known to have convolutions."""
        return False

    @property
    def images(self) -> int:
        """Images in one step of all models together."""
        return self.batch * self.models

    @property
    def trains(self) -> bool:
        """Whether its steps are training steps."""
        return self.phase in ("train", "many")

    @property
    @abstractmethod
    def model(self) -> dict[str, Any]:
        """The model as plain JSON values, by the name of what describes it."""
        raise NotImplementedError


@dataclass(frozen=True)
class Workload(Timed):
    """A spec's model and what is timed of it."""

    phase: Phase
    spec: Spec
    """Its batch size is the workload's."""
    steps: int = 16
    """Training steps in one pass over the data set."""
    convolves: bool = False
    """Whether the model has convolutions: which variants a side races depends on it."""
    models: int = 1
    """Number of models trained at once."""
    quick: bool = False
    """Whether it is part of a quick race."""
    target: float = 0.0
    """Held-out loss at which a training to quality ends."""
    hidden: bool = False
    """Whether it serves the harness's own tests alone."""

    @property
    def batch(self) -> int:
        """Images in one step of one model."""
        return self.spec.training.batch_size

    @property
    def model(self) -> dict[str, Any]:
        """The spec."""
        return {"spec": spec_to_json(self.spec)}


@dataclass(frozen=True)
class PairWorkload(Timed):
    """A JAX function and a PyTorch module that someone else wrote, and what is timed of them."""

    phase: PairPhase
    file: Path
    """Python file that brings the pair; see `parity_tests.pair`."""
    size: int
    """Rows of its first input."""
    apart: str = ""
    """What its two sides do not agree in, in one sentence; empty where they are the same model."""
    digest: str = ""
    """SHA-256 of the file, by which a comparison of races tells another model from the same one."""

    @property
    def batch(self) -> int:
        """Rows of the first input."""
        return self.size

    @property
    def model(self) -> dict[str, Any]:
        """The file's path."""
        return {"pair": str(self.file)}


def workload_to_json(workload: Timed) -> dict[str, Any]:
    """Return what a worker has to know of a workload as plain JSON values; `workload_from_json` is its inverse."""
    named = {field.name: getattr(workload, field.name) for field in fields(workload)}
    return {name: value for name, value in named.items() if name not in ("spec", "file")} | workload.model


def workload_from_json(value: dict[str, Any]) -> Workload | PairWorkload:
    """Return the workload that a worker is told.

    Raises:
        SpecError: its spec names a kind that is not known here.
    """
    others = {name: item for name, item in value.items() if name not in ("spec", "pair")}
    if "pair" in value:
        return PairWorkload(**others, file=Path(value["pair"]))
    return Workload(**others, spec=spec_from_json(value["spec"]))


class Material(NamedTuple):
    """The arrays of a workload, the same for every side."""

    tensors: list[dict[str, Float32[np.ndarray, "..."]]]
    """Initial weights of each model, in PyTorch's names and layouts."""
    images: Float32[np.ndarray, "N H W C"]
    """The data set: of inference, one batch."""
    codes: Float32[np.ndarray, "B ..."]
    """Codes to decode, [B, *latent shape]."""
    steps: Steps
    """Training steps, one pass over the data set. A twin makes their noise itself; others need `with_noise`."""


def material(workload: Workload, shapes: dict[str, tuple[int, ...]]) -> Material:
    """Return the arrays of a workload; ``shapes`` are those of its model's tensors, by name."""
    spec = workload.spec
    count = workload.batch * (workload.steps if workload.trains else 1)
    images = np.resize(pictures(spec, min(count, PICTURES)), (count, *spec.input_shape))
    starts = [initial_weights(shapes, spec, seed) for seed in range(workload.models)]
    tensors = [{name: tensor.astype(np.float32) for name, tensor in start.items()} for start in starts]
    codes = normal((workload.batch, *spec.latent_shape), 0, "codes").astype(np.float32)
    steps = make_steps(spec, count, 0, 0, 0, workload.steps if workload.trains else 1)
    return Material(tensors, images, codes, steps)


def pictures(spec: Spec, count: int) -> Float32[np.ndarray, "N H W C"]:
    """Return ``count`` cans as the spec wants its images; beside one and three, any channels show the same gray can."""
    height, width, channels = spec.input_shape
    drawn = cans(count, (height, width), channels=3 if channels == 3 else 1).images
    return np.ascontiguousarray(np.broadcast_to(drawn, (count, *spec.input_shape)))


def with_noise(steps: Steps, spec: Spec) -> Steps:
    """Return the steps with the noise that a twin would make from their seed and numbers, by NumPy's reference."""
    rows = steps.indices.shape[1]
    noise = {name: draw(site, key(steps.seed, name), steps.numbers, rows) for name, site in spec.noise_sites.items()}
    return steps._replace(noise=noise)


def inputs(workload: Workload, arrays: Material) -> Float[np.ndarray, "B ..."]:
    """Return the input of one step of inference."""
    return arrays.codes if workload.phase == "decode" else arrays.images


def with_batch(spec: Spec, size: int) -> Spec:
    """Return the spec with batches of another size."""
    return replace(spec, training=replace(spec.training, batch_size=size))


def _dense(side: int, hidden: tuple[int, ...], latent: int, batch: int) -> Spec:
    return Spec((side, side, 1), DenseBackbone(hidden), PlainBottleneck(latent), training=Training(batch_size=batch))


_FOSTER_AE, _FOSTER_VAE = preset("foster-ae"), preset("foster-vae")
# symmetric padding, PyTorch's own: its home ground, where torch.compile does best
_TORCH_PADDED = replace(_FOSTER_AE, backbone=ConvBackbone((32, 64, 128), (2, 2, 2), padding="torch"))
_SMALL = _dense(28, (128,), 32, 64)
_LARGE = _dense(32, (512, 256, 128), 32, 128)
_TINY_CONV = Spec((8, 8, 1), ConvBackbone((4,), (2,)), PlainBottleneck(2), training=Training(batch_size=8))

_TINY_VAE = replace(
    _TINY_CONV, bottleneck=GaussianBottleneck(2, 0.5), likelihood=BernoulliLikelihood("sum", weight=2.0)
)

_TINY_DENSE = _dense(6, (8,), 2, 8)
_TINY_WARDROBE = replace(
    preset("wardrobe"), input_shape=(6, 6, 1), training=replace(preset("wardrobe").training, batch_size=8)
)

_ALL = (
    *(
        Workload(
            f"{name}-{batch}", "train", with_batch(spec, batch), steps, True, quick=(name, batch) == ("foster-ae", 128)
        )
        for name, spec in (("foster-ae", _FOSTER_AE), ("foster-vae", _FOSTER_VAE))
        for batch, steps in ((32, 64), (128, 16), (512, 4))
    ),
    Workload("foster-ae-torch-padding", "train", with_batch(_TORCH_PADDED, 128), 16, True),
    Workload("dense-small", "train", _SMALL, 256, quick=True),
    Workload("dense-large", "train", _LARGE, 64),
    Workload("dense-digits", "train", preset("dense-digits"), 256),
    Workload("wardrobe", "train", preset("wardrobe"), 64),
    *(
        Workload(
            f"{phase}-{batch}",
            phase,
            with_batch(_FOSTER_AE, batch),
            convolves=True,
            quick=(phase, batch) == ("reconstruct", 256),
        )
        for phase in ("encode", "decode", "reconstruct")
        for batch in (1, 256)
    ),
    Workload("sixteen-dense", "many", _SMALL, MANY, models=MANY),
    Workload("quality-foster-ae", "quality", with_batch(_FOSTER_AE, 128), convolves=True, target=0.335),
    Workload("quality-dense", "quality", _SMALL, quick=True, target=0.306),
    Workload("tiny-dense", "train", _TINY_DENSE, 8, hidden=True),
    Workload("tiny-wardrobe", "train", _TINY_WARDROBE, 8, hidden=True),
    Workload("tiny-conv", "train", _TINY_CONV, 8, True, hidden=True),
    Workload("tiny-vae", "train", _TINY_VAE, 8, True, hidden=True),
    Workload("tiny-reconstruct", "reconstruct", _TINY_CONV, convolves=True, hidden=True),
    Workload("tiny-many", "many", _TINY_DENSE, 8, models=3, hidden=True),
)
WORKLOADS = {workload.name: workload for workload in _ALL}


def choose_workloads(names: tuple[str, ...], quick: bool) -> list[Workload]:
    """Return the workloads with these names; without names all, or those of a quick race.

    Raises:
        UserError: a name is unknown; the nearest is given.
    """
    public = [workload.name for workload in _ALL if not workload.hidden]
    for name in names:
        if name not in WORKLOADS:
            raise UserError(f'--workload: unknown workload "{name}"; {nearest(name, public)}')
    return [WORKLOADS[name] for name in dict.fromkeys(names or public) if names or not quick or WORKLOADS[name].quick]
