"""The PyTorch twin as the command line, the training loop and the benchmarks use it: NumPy in, NumPy out."""

from collections.abc import Callable, Iterator
from importlib.metadata import version
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Float64
from torch import Tensor

from ae_core.noise import key as noise_key
from ae_core.spec import Spec
from ae_core.training.engine import (
    CHUNK_BYTES,
    INFERENCE_BATCH,
    MAX_STEPS,
    RESIDENT_BYTES,
    Codes,
    Snapshot,
    Steps,
    Tensors,
    check_posterior,
    check_rows,
)
from ae_torch.execution.variants import Variant, choose, compiled, laid_out, with_variant
from ae_torch.model.autoencoder import Autoencoder
from ae_torch.noise import draw
from ae_torch.tensors import from_tensors, to_tensors
from ae_torch.training import Batch, State, export_state, import_state, make_training

NOISE_NUMBERS = 2**16
"""Noise is made for so many steps at once that it comes to about so many numbers at a site; they fit a core's cache."""


class Inference:
    """A model with weights; see `ae_core.training.engine.Inference`.

    Without a variant, `ae_torch.execution.variants.choose` takes one that runs eagerly.
    """

    def __init__(self, spec: Spec, tensors: Tensors, variant: Variant | None = None) -> None:
        self.spec = spec
        model = from_tensors(Autoencoder(spec), tensors).to(device_of_training()).eval()
        variant = variant or choose(model, 0)
        self.model = laid_out(model, variant)
        self.at_once = variant.micro_batch or INFERENCE_BATCH
        self._encode = compiled(lambda x: self.model.encode(x).z, variant)
        self._posterior = compiled(self._mean_and_logvar, variant)
        self._decode = compiled(lambda z: self.model.decode(z), variant)
        self._reconstruct = compiled(lambda x: self.model.reconstruct(x), variant)

    def encode(self, images: Float[np.ndarray, "N H W C"]) -> Codes:
        """Return codes, [N, *latent shape]; where a code has a posterior, its mean."""
        return self._map(self._encode, images)

    def posterior(self, images: Float[np.ndarray, "N H W C"]) -> tuple[Codes, Codes]:
        """Return mean and logvar of the posterior N(mean, exp(logvar)) of each image, [N, *latent shape] each."""
        check_posterior(self.spec)
        both = self._map(self._posterior, images)
        return both[:, 0], both[:, 1]

    def decode(self, z: Codes) -> Float[np.ndarray, "N H W C"]:
        """Return the images that codes stand for."""
        return self._map(self._decode, z)

    def reconstruct(self, images: Float[np.ndarray, "N H W C"]) -> Float[np.ndarray, "N H W C"]:
        """Return ``decode(encode(images))``."""
        return self._map(self._reconstruct, images)

    def evaluate(self, images: Float[np.ndarray, "N H W C"]) -> dict[str, float]:
        """Return the loss and its terms, averaged over the images, without noise and with running statistics."""
        return _evaluate(self.model, images)

    def _mean_and_logvar(self, x: Tensor) -> Tensor:
        code: Any = self.model.encode(x)
        return torch.stack([code.mean, code.logvar], 1)

    @torch.inference_mode()
    def _map(self, function: Callable[[Tensor], Tensor], array: np.ndarray) -> np.ndarray:
        return np.concatenate([function(part).cpu().numpy() for part in _batches(self.spec, array, self.at_once)])


class Trainer:
    """A training under way; see `ae_core.training.engine.Trainer`.

    Images stay on the device where they fit; else those of each dispatch travel with it. Without a variant,
    `ae_torch.execution.variants.choose` takes one.
    """

    def __init__(
        self,
        spec: Spec,
        tensors: Tensors,
        images: Float[np.ndarray, "N H W C"],
        variant: Variant | None = None,
    ) -> None:
        self.spec = spec
        self.images = images
        self.resident: Tensor | None = None
        batch_bytes = spec.training.batch_size * images[0].size * np.dtype(spec.training.precision).itemsize
        if images.size * np.dtype(spec.training.precision).itemsize <= RESIDENT_BYTES:
            self.resident = _tensor(spec, images)
        steps = -(-len(images) // spec.training.batch_size)
        model = from_tensors(Autoencoder(spec), tensors).to(device_of_training())
        variant = variant or choose(model, steps * spec.training.epochs)
        model = laid_out(model, variant)
        self.training = make_training(model)
        self.state: State = self.training.init(model)
        with_variant(model, self.state.optimizer, variant)
        most = MAX_STEPS if self.resident is not None else max(1, CHUNK_BYTES // batch_bytes)
        self.capacity = min(steps, most)

    def advance(self, steps: Steps) -> dict[str, Float64[np.ndarray, " K"]]:
        """Take steps, wait for them, and return the loss and its terms at each."""
        logs: dict[str, list[Tensor]] = {}
        for row, (size, noise) in enumerate(zip(steps.sizes, self._noise(steps), strict=True)):
            chosen = steps.indices[row, :size]
            images = _tensor(self.spec, self.images[chosen]) if self.resident is None else self.resident[chosen]
            coefficients = {name: float(values[row]) for name, values in steps.coefficients.items()}
            own = {site: values[:size] for site, values in noise.items()}
            batch = Batch(images, float(steps.learning_rates[row]), own, coefficients)
            self.state, terms = self.training.step(self.state, batch)
            for name, value in terms.items():
                logs.setdefault(name, []).append(value)
        return {name: torch.stack(values).cpu().numpy().astype(np.float64) for name, values in logs.items()}

    def _noise(self, steps: Steps) -> Iterator[dict[str, Tensor]]:
        """Yield the noise of each step by site, [B, *shape]: the caller's own, or what is made here.

        It is made for several steps at once: where there is little of it, its time is that of some eighty calls.
        """
        precision, device = self.spec.training.precision, device_of_training()
        count, rows = steps.indices.shape
        sites = {name: site for name, site in self.spec.noise_sites.items() if name not in steps.noise}
        keys = {name: noise_key(steps.seed, name) for name in sites}
        at_once = max(1, NOISE_NUMBERS // max((rows * site.size for site in sites.values()), default=1))
        dtype = getattr(torch, precision)
        for first in range(0, count, at_once):
            part = steps.part(first, at_once)
            numbers = torch.from_numpy(part.numbers).to(device)
            made = {n: draw(s, keys[n], numbers, rows, dtype=dtype, device=device) for n, s in sites.items()}
            made |= {site: _tensor(self.spec, values) for site, values in part.noise.items()}
            for row in range(len(part.sizes)):
                yield {site: values[row] for site, values in made.items()}

    def evaluate(self, images: Float[np.ndarray, "N H W C"]) -> dict[str, float]:
        """Return the loss and its terms, as `Inference.evaluate` does, at the present weights."""
        return _evaluate(self.state.model.eval(), images)

    def tensors(self) -> dict[str, np.ndarray]:
        """Return a copy of the present weights."""
        return to_tensors(self.state.model)

    def snapshot(self) -> Snapshot:
        """Return a copy of all that training changes."""
        return Snapshot(int(self.state.step), export_state(self.spec, self.state))

    def restore(self, snapshot: Snapshot) -> None:
        """Go on from there, as the training would have that it was taken from."""
        self.state = import_state(self.spec, self.state, snapshot.tensors, snapshot.step)


class TorchEngine:
    """The PyTorch twin; see `ae_core.training.engine.Engine`."""

    name = "torch"
    variant = "channels_last, no copies for padding, fused optimiser, long trainings compiled, long batches in parts"

    def configure(self) -> None:
        """Change nothing: PyTorch divides its work over the cores by itself."""

    def environment(self) -> dict[str, str]:
        """Return versions, device and the state of float32 products."""
        device = device_of_training()
        return {
            "torch": version("torch"),
            "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
            "threads": str(torch.get_num_threads()),
            "float32 products": "full precision, pinned",
        }

    def shapes(self, spec: Spec) -> dict[str, tuple[int, ...]]:
        """Return names and shapes of the tensors of a spec."""
        with torch.device("meta"):  # shapes alone, however large
            return Autoencoder(spec).shapes

    def infer(self, spec: Spec, tensors: Tensors) -> Inference:
        """Return the model with these weights."""
        return Inference(spec, tensors)

    def train(self, spec: Spec, tensors: Tensors, images: Float[np.ndarray, "N H W C"]) -> Trainer:
        """Begin a training on these images from these weights."""
        return Trainer(spec, tensors, images)


@torch.inference_mode()
def _evaluate(model: Autoencoder, images: np.ndarray) -> dict[str, float]:
    totals: dict[str, float] = {}
    for part in _batches(model.spec, images):
        result = model.loss(part)
        for name, value in {"loss": result.total, **result.terms}.items():
            totals[name] = totals.get(name, 0.0) + value.item() * len(part)
    return {name: total / len(images) for name, total in totals.items()}


def _batches(spec: Spec, array: np.ndarray, size: int = INFERENCE_BATCH) -> Iterator[Tensor]:
    check_rows(array)
    for start in range(0, len(array), size):
        yield _tensor(spec, array[start : start + size])


def _tensor(spec: Spec, array: np.ndarray) -> Tensor:
    return torch.from_numpy(array.astype(spec.training.precision)).to(device_of_training())


def device_of_training() -> torch.device:
    """Return where the twin trains: on a GPU where PyTorch sees one, with full float32 products."""
    if not torch.cuda.is_available():
        return torch.device("cpu")
    # float32 means float32: by default cuDNN's convolutions may use TF32
    torch.backends.cudnn.conv.fp32_precision = "ieee"  # type: ignore[attr-defined]
    torch.backends.cuda.matmul.fp32_precision = "ieee"
    return torch.device("cuda")


ENGINE = TorchEngine()
