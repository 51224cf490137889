"""What a twin offers to the command line, the training loop and the benchmarks: NumPy in, NumPy out."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float, Float64, Int64

from ae_core.errors import DataError, SpecError
from ae_core.spec import Spec

Tensors = Mapping[str, np.ndarray]
"""Tensors of a weights file: PyTorch's names and layouts."""

Codes = Float[np.ndarray, "N ..."]
"""A code of the spec's latent shape for each image: ``[N, L]``, or maps ``[N, h, w, c]``."""

INFERENCE_BATCH = 256
"""Images in one pass of encode, posterior, decode, reconstruct and evaluate."""

RESIDENT_BYTES = 2**31
"""A data set of up to so many bytes lies on the device, whole."""

CHUNK_BYTES = 2**26
"""Images that travel in one dispatch when the data set does not lie on the device, in bytes."""

MAX_STEPS = 256
"""The most training steps in one dispatch."""


def check_rows(array: Float[np.ndarray, "N ..."]) -> None:
    """Refuse to work out nothing.

    Raises:
        DataError: there are no rows.
    """
    if not len(array):
        raise DataError("given no images or codes; expected at least one")


def check_posterior(spec: Spec) -> None:
    """Refuse to ask a deterministic code for its posterior.

    Raises:
        SpecError: a code of the spec is no distribution.
    """
    if not spec.bottleneck.has_posterior:
        raise SpecError(
            f'posterior: given a "{spec.bottleneck.kind}" bottleneck; expected one whose code has a posterior'
        )


class Steps(NamedTuple):
    """Consecutive training steps, one row each, with all that they need: noise follows from seed and number."""

    indices: Int64[np.ndarray, "K B"]
    """Training images of each step; what lies behind its size is not read."""
    sizes: Int64[np.ndarray, " K"]
    """Number of images of each step."""
    numbers: Int64[np.ndarray, " K"]
    """Number of each step in the training, from 0."""
    seed: int
    """Of the noise."""
    learning_rates: Float64[np.ndarray, " K"]
    """Learning rate of each step."""
    coefficients: Mapping[str, Float64[np.ndarray, " K"]]
    """The spec's coefficients at each step, by name."""
    noise: Mapping[str, Float[np.ndarray, "K B ..."]] = MappingProxyType({})
    """Noise of the caller's own, by site; what is not here is made on the device (`ae_core.noise`)."""

    def part(self, first: int, count: int) -> "Steps":
        """Return ``count`` of the steps, from ``first`` on."""
        rows = slice(first, first + count)
        return self._replace(
            indices=self.indices[rows],
            sizes=self.sizes[rows],
            numbers=self.numbers[rows],
            learning_rates=self.learning_rates[rows],
            coefficients={name: values[rows] for name, values in self.coefficients.items()},
            noise={site: values[rows] for site, values in self.noise.items()},
        )


class Snapshot(NamedTuple):
    """All that training changes. Either twin goes on from it, whichever gave it."""

    step: int
    """Steps taken."""
    tensors: dict[str, np.ndarray]
    """Parameters, state and moments, in PyTorch's names and layouts; moments begin with the name of their slot."""


@runtime_checkable
class Inference(Protocol):
    """A model with weights. Any number of images is taken, a batch at a time."""

    def encode(self, images: Float[np.ndarray, "N H W C"]) -> Codes:
        """Return codes, [N, *latent shape]; where a code has a posterior, its mean."""
        ...

    def posterior(self, images: Float[np.ndarray, "N H W C"]) -> tuple[Codes, Codes]:
        """Return mean and logvar of the posterior N(mean, exp(logvar)) of each image, [N, *latent shape] each.

        Raises:
            SpecError: a code of the spec has no posterior.
        """
        ...

    def decode(self, z: Codes) -> Float[np.ndarray, "N H W C"]:
        """Return the images that codes stand for."""
        ...

    def reconstruct(self, images: Float[np.ndarray, "N H W C"]) -> Float[np.ndarray, "N H W C"]:
        """Return ``decode(encode(images))``."""
        ...

    def evaluate(self, images: Float[np.ndarray, "N H W C"]) -> dict[str, float]:
        """Return the loss and its terms, averaged over the images, without noise and with running statistics."""
        ...


@runtime_checkable
class Trainer(Protocol):
    """A training under way."""

    capacity: int
    """The most steps that one `advance` takes."""

    def advance(self, steps: Steps) -> dict[str, Float64[np.ndarray, " K"]]:
        """Take steps, wait for them, and return the loss and its terms at each."""
        ...

    def evaluate(self, images: Float[np.ndarray, "N H W C"]) -> dict[str, float]:
        """Return the loss and its terms, as `Inference.evaluate` does, at the present weights."""
        ...

    def tensors(self) -> dict[str, np.ndarray]:
        """Return a copy of the present weights."""
        ...

    def snapshot(self) -> Snapshot:
        """Return a copy of all that training changes."""
        ...

    def restore(self, snapshot: Snapshot) -> None:
        """Go on from there, as the training would have that it was taken from."""
        ...


@runtime_checkable
class Engine(Protocol):
    """One of the twins."""

    name: str
    """``jax`` or ``torch``."""
    variant: str
    """How it trains by default, in a few words."""

    def configure(self) -> None:
        """Set the process up for this twin, as the command line does first of all; importing a twin changes nothing."""
        ...

    def environment(self) -> dict[str, str]:
        """Return versions, device and the state of float32 products."""
        ...

    def shapes(self, spec: Spec) -> dict[str, tuple[int, ...]]:
        """Return names and shapes of the tensors of a spec."""
        ...

    def infer(self, spec: Spec, tensors: Tensors) -> Inference:
        """Return the model with these weights."""
        ...

    def train(self, spec: Spec, tensors: Tensors, images: Float[np.ndarray, "N H W C"]) -> Trainer:
        """Begin a training on these images from these weights."""
        ...
