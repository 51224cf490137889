"""What a twin offers to the command line, the training loop and the benchmarks: NumPy in, NumPy out."""

from collections.abc import Mapping
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float, Float64, Int64

from ae_core.errors import DataError, SpecError
from ae_core.spec import GaussianBottleneck, Spec

Tensors = Mapping[str, np.ndarray]
"""Tensors of a weights file: PyTorch's names and layouts."""

Codes = Float[np.ndarray, "N L"]
"""One number for each image and latent dimension."""

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
        SpecError: the bottleneck is not a Gaussian one.
    """
    if not isinstance(spec.bottleneck, GaussianBottleneck):
        raise SpecError(f'posterior: given a "{spec.bottleneck.kind}" bottleneck; expected "gaussian"')


class Steps(NamedTuple):
    """Consecutive training steps, one row each; all randomness is in them."""

    indices: Int64[np.ndarray, "K B"]
    """Training images of each step; what lies behind its size is not read."""
    sizes: Int64[np.ndarray, " K"]
    """Number of images of each step."""
    noise: Float64[np.ndarray, "K B L"]
    """Standard normal numbers for the bottleneck."""
    learning_rates: Float64[np.ndarray, " K"]
    """Learning rate of each step."""


class Memory(NamedTuple):
    """All that training changes. Either twin goes on from it, whichever gave it."""

    step: int
    """Steps taken."""
    tensors: dict[str, np.ndarray]
    """Parameters, running statistics and moments, in PyTorch's names and layouts; moments begin with their slot."""


@runtime_checkable
class Inference(Protocol):
    """A model with weights. Any number of images is taken, a batch at a time."""

    def encode(self, images: Float[np.ndarray, "N H W C"]) -> Float[np.ndarray, "N L"]:
        """Return codes; of a Gaussian bottleneck, the means."""
        ...

    def posterior(self, images: Float[np.ndarray, "N H W C"]) -> tuple[Codes, Codes]:
        """Return mean and logvar of the posterior N(mean, exp(logvar)) of each image, [N, L] each.

        Raises:
            SpecError: the bottleneck is not a Gaussian one.
        """
        ...

    def decode(self, z: Float[np.ndarray, "N L"]) -> Float[np.ndarray, "N H W C"]:
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

    def memory(self) -> Memory:
        """Return a copy of all that training changes."""
        ...

    def remember(self, memory: Memory) -> None:
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
