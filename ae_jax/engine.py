"""The JAX twin as the command line, the training loop and the benchmarks use it: NumPy in, NumPy out."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import lru_cache
from importlib.metadata import version
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Float64

from ae_core.engine import CHUNK_BYTES, INFERENCE_BATCH, Steps, Tensors
from ae_core.spec import Spec
from ae_jax.dispatch import compiled_steps
from ae_jax.model import Variables, build
from ae_jax.tensors import from_tensors, to_tensors
from ae_jax.training import State, make_training

MAX_STEPS = 256
RESIDENT_BYTES = 2**31


class Inference:
    """A model with weights; see `ae_core.engine.Inference`."""

    def __init__(self, spec: Spec, tensors: Tensors) -> None:
        self.spec = spec
        with _precision(spec):
            self.variables = from_tensors(tensors, spec.training.precision)

    def encode(self, images: Float[np.ndarray, "N H W C"]) -> Float[np.ndarray, "N L"]:
        """Return codes; of a Gaussian bottleneck, the means."""
        return self._map("encode", images)

    def decode(self, z: Float[np.ndarray, "N L"]) -> Float[np.ndarray, "N H W C"]:
        """Return the images that codes stand for."""
        return self._map("decode", z)

    def reconstruct(self, images: Float[np.ndarray, "N H W C"]) -> Float[np.ndarray, "N H W C"]:
        """Return ``decode(encode(images))``."""
        return self._map("reconstruct", images)

    def evaluate(self, images: Float[np.ndarray, "N H W C"]) -> dict[str, float]:
        """Return the loss and its terms, averaged over the images, without noise and with running statistics."""
        return _evaluate(self.spec, self.variables, images)

    def _map(self, name: str, array: np.ndarray) -> np.ndarray:
        with _precision(self.spec):
            function = _inference(self.spec)[name]
            parts = [np.asarray(function(self.variables, part))[:size] for part, size in _batches(self.spec, array)]
        return np.concatenate(parts)


class Trainer:
    """A training under way; see `ae_core.engine.Trainer`.

    Images stay on the device where they fit; else those of each dispatch travel with it.
    """

    def __init__(self, spec: Spec, tensors: Tensors, images: Float[np.ndarray, "N H W C"]) -> None:
        self.spec = spec
        self.images = images
        self.resident: Array | None = None
        batch_bytes = spec.training.batch_size * images[0].size * np.dtype(spec.training.precision).itemsize
        with _precision(spec):
            if images.size * np.dtype(spec.training.precision).itemsize <= RESIDENT_BYTES:
                self.resident = jnp.asarray(images, dtype=spec.training.precision)
            variables = from_tensors(tensors, spec.training.precision)
            self.state: State = make_training(build(spec)).init(variables)
        steps = -(-len(images) // spec.training.batch_size)
        most = MAX_STEPS if self.resident is not None else max(1, CHUNK_BYTES // batch_bytes)
        self.capacity = min(steps, most)

    def advance(self, steps: Steps) -> dict[str, Float64[np.ndarray, " K"]]:
        """Take steps, wait for them, and return the loss and its terms at each."""
        count, size = steps.indices.shape
        missing = self.capacity - count
        padded = Steps(*(np.pad(a, ((0, missing), *((0, 0),) * (a.ndim - 1))) for a in steps))
        weight = (np.arange(size) < padded.sizes[:, None]).astype(self.spec.training.precision)
        images, indices = self.resident, padded.indices
        with _precision(self.spec):
            if images is None:
                images = self.images[indices.reshape(-1)].astype(self.spec.training.precision)
                indices = np.arange(indices.size).reshape(indices.shape)
            inputs = (
                indices.astype(np.int32),
                weight,
                padded.noise.astype(weight.dtype),
                padded.learning_rates.astype(weight.dtype),
            )
            self.state, terms = compiled_steps(self.spec)(self.state, images, inputs, count)
            return {name: np.asarray(values, np.float64)[:count] for name, values in terms.items()}

    def evaluate(self, images: Float[np.ndarray, "N H W C"]) -> dict[str, float]:
        """Return the loss and its terms, as `Inference.evaluate` does, at the present weights."""
        return _evaluate(self.spec, self.state.variables, images)

    def tensors(self) -> dict[str, np.ndarray]:
        """Return a copy of the present weights."""
        return to_tensors(self.state.variables)


class JaxEngine:
    """The JAX twin; see `ae_core.engine.Engine`."""

    name = "jax"
    variant = "jit, many steps a dispatch, donated state"

    def environment(self) -> dict[str, str]:
        """Return versions, device and the state of float32 products."""
        device = jax.devices()[0]
        return {
            **{package: version(package) for package in ("jax", "jaxlib", "flax", "optax")},
            "device": f"{jax.device_count()} × {device.device_kind} ({device.platform})",
            "float32 products": "full precision, pinned",
        }

    def shapes(self, spec: Spec) -> dict[str, tuple[int, ...]]:
        """Return names and shapes of the tensors of a spec."""
        return build(spec).shapes

    def infer(self, spec: Spec, tensors: Tensors) -> Inference:
        """Return the model with these weights."""
        return Inference(spec, tensors)

    def train(self, spec: Spec, tensors: Tensors, images: Float[np.ndarray, "N H W C"]) -> Trainer:
        """Begin a training on these images from these weights."""
        return Trainer(spec, tensors, images)


@lru_cache(maxsize=64)
def _inference(spec: Spec) -> dict[str, Callable[..., Any]]:
    model = build(spec)

    def evaluate(variables: Variables, x: Array, weight: Array) -> dict[str, Array]:
        result = model.loss(variables, x, weight=weight, train=False)
        return {"loss": result.total, **result.terms}

    return {
        "encode": jax.jit(lambda variables, x: model.encode(variables, x).z),
        "decode": jax.jit(model.decode),
        "reconstruct": jax.jit(model.reconstruct),
        "evaluate": jax.jit(evaluate),
    }


def _evaluate(spec: Spec, variables: Variables, images: np.ndarray) -> dict[str, float]:
    totals: dict[str, float] = {}
    with _precision(spec):
        for part, size in _batches(spec, images):
            weight = (np.arange(len(part)) < size).astype(part.dtype)
            for name, value in _inference(spec)["evaluate"](variables, part, weight).items():
                totals[name] = totals.get(name, 0.0) + float(value) * size
    return {name: total / len(images) for name, total in totals.items()}


def _batches(spec: Spec, array: np.ndarray) -> Any:
    length = min(INFERENCE_BATCH, len(array))
    for start in range(0, len(array), length):
        part = array[start : start + length].astype(spec.training.precision)
        # the last batch is filled up, so that one compiled program serves all
        yield np.pad(part, ((0, length - len(part)), *((0, 0),) * (part.ndim - 1))), len(part)


def _precision(spec: Spec) -> AbstractContextManager[Any]:
    context: AbstractContextManager[Any] = jax.enable_x64(spec.training.precision == "float64")
    return context


ENGINE = JaxEngine()
