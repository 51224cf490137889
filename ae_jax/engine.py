"""The JAX twin as the command line, the training loop and the benchmarks use it: NumPy in, NumPy out."""

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jaxtyping import Array, Float, Float64

from ae_core.noise import key as noise_key
from ae_core.spec import Spec
from ae_core.system.interrupt import uninterrupted
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
from ae_jax.execution.cpu import configure_cpu
from ae_jax.execution.dispatch import (
    StepInputs,
    compiled_inference,
    compiled_steps,
    one_at_a_time,
    program_of,
    replicated,
)
from ae_jax.execution.plan import Division, Plan, divide
from ae_jax.model.autoencoder import Variables, build
from ae_jax.tensors import from_tensors, to_tensors
from ae_jax.training import State, export_state, import_state, make_training


class Inference:
    """A model with weights; see `ae_core.training.engine.Inference`."""

    def __init__(self, spec: Spec, tensors: Tensors) -> None:
        self.spec, self.program = spec, program_of(spec, train=False)
        with _precision(spec):
            self.variables = from_tensors(tensors, spec.training.precision)

    def encode(self, images: Float[np.ndarray, "N H W C"]) -> Codes:
        """Return codes, [N, *latent shape]; where a code has a posterior, its mean."""
        return self._map("encode", images)

    def posterior(self, images: Float[np.ndarray, "N H W C"]) -> tuple[Codes, Codes]:
        """Return mean and logvar of the posterior N(mean, exp(logvar)) of each image, [N, *latent shape] each."""
        check_posterior(self.spec)
        both = self._map("posterior", images)
        return both[:, 0], both[:, 1]

    def decode(self, z: Codes) -> Float[np.ndarray, "N H W C"]:
        """Return the images that codes stand for."""
        return self._map("decode", z)

    def reconstruct(self, images: Float[np.ndarray, "N H W C"]) -> Float[np.ndarray, "N H W C"]:
        """Return ``decode(encode(images))``."""
        return self._map("reconstruct", images)

    def evaluate(self, images: Float[np.ndarray, "N H W C"]) -> dict[str, float]:
        """Return the loss and its terms, averaged over the images, without noise and with running statistics."""
        return _evaluate(self.spec, self.variables, images)

    def _map(self, name: str, array: np.ndarray) -> np.ndarray:
        result, done = np.empty(0), 0
        with _precision(self.spec):
            for division, variables, rows, size in _batches(self.spec, self.variables, array):
                with one_at_a_time:
                    part = np.asarray(compiled_inference(self.program, name, division)(variables, rows))[:size]
                if size == len(array):
                    return part.copy()  # JAX's own memory may not be written to
                result = result if done else np.empty((len(array), *part.shape[1:]), part.dtype)
                result[done : done + size] = part
                done += size
        return result


class Trainer:
    """A training under way; see `ae_core.training.engine.Trainer`.

    Images stay on the devices where they fit; else those of each dispatch travel while the one before it runs.
    """

    def __init__(
        self, spec: Spec, tensors: Tensors, images: Float[np.ndarray, "N H W C"], plan: Plan | None = None
    ) -> None:
        self.spec, self.program = spec, program_of(spec)
        self.images = images
        self.plan = plan or Plan()
        self.division = divide(spec, spec.training.batch_size, self.plan)
        self.resident: Array | None = None
        item = np.dtype(spec.training.precision).itemsize
        with _precision(spec):
            if images.size * item * self.division.devices <= RESIDENT_BYTES:
                self.resident = self._everywhere(images.astype(spec.training.precision, copy=False))
            variables = from_tensors(tensors, spec.training.precision)
            self.state: State = self._everywhere(make_training(build(spec)).init(variables))
        self.capacity = min(-(-len(images) // spec.training.batch_size), MAX_STEPS)
        batch_bytes = self.division.rows * images[0].size * item
        self.chunk = self.capacity if self.resident is not None else max(1, CHUNK_BYTES // batch_bytes)

    def _everywhere(self, tree: Any) -> Any:
        devices = self.division.devices
        return jax.device_put(tree, replicated(devices) if devices > 1 else None)

    def advance(self, steps: Steps) -> dict[str, Float64[np.ndarray, " K"]]:
        """Take steps, wait for them, and return the loss and its terms at each."""
        count = len(steps.sizes)
        pieces = [steps.part(first, self.chunk) for first in range(0, count, self.chunk)]
        if len(pieces) == 1:
            return self._dispatch(*self._prepare(pieces[0]))
        logs = []
        with ThreadPoolExecutor(1) as ahead:
            upcoming = ahead.submit(self._prepare, pieces[0])
            for following in (*pieces[1:], None):
                prepared = upcoming.result()
                if following is not None:
                    upcoming = ahead.submit(self._prepare, following)
                logs.append(self._dispatch(*prepared))
        return {name: np.concatenate([log[name] for log in logs]) for name in logs[0]}

    def _prepare(self, steps: Steps) -> tuple[Any, StepInputs, int]:
        """Return images, inputs and number of steps of a dispatch, as `compiled_steps` takes them."""
        precision = self.spec.training.precision
        count, size = steps.indices.shape
        more, filler = self.chunk - count, self.division.rows - size

        def filled(array: np.ndarray, dtype: Any) -> np.ndarray:
            """Bring [K, …] or [K, B, …] to the size of a dispatch, and of its batches."""
            rows = ((0, filler),) if array.ndim > 1 else ()
            return np.pad(array, ((0, more), *rows, *((0, 0),) * (array.ndim - 2))).astype(dtype)

        mask = (np.arange(size + filler) < steps.sizes[:, None]).astype(precision)
        indices = filled(steps.indices, np.int32)
        sites = [name for name in self.spec.noise_sites if name not in steps.noise]
        inputs = StepInputs(
            indices,
            np.pad(mask, ((0, more), (0, 0))),
            {site: filled(values, precision) for site, values in steps.noise.items()},
            filled(steps.learning_rates, precision),
            {name: filled(values, precision) for name, values in steps.coefficients.items()},
            filled(steps.numbers, np.uint32),
            {site: np.array(noise_key(steps.seed, site), np.uint32) for site in sites},
        )
        if self.resident is not None:
            return self.resident, inputs, count
        images = self.images[indices.reshape(-1)].astype(precision, copy=False)
        with _precision(self.spec):
            images = self._everywhere(images)
        return images, inputs._replace(indices=np.arange(indices.size, dtype=np.int32).reshape(indices.shape)), count

    def compiled(self, steps: Steps) -> Any:
        """Return the program that such steps run in, a `jax.stages.Compiled`: its text, its cost, its memory."""
        run: Any = compiled_steps(self.program, self.division, self.plan.plain_convolutions)
        images, inputs, count = self._prepare(steps)
        with _precision(self.spec):
            return run.lower(self.state, images, inputs, count).compile()

    def _dispatch(self, images: Any, inputs: StepInputs, count: int) -> dict[str, Float64[np.ndarray, " K"]]:
        with _precision(self.spec):
            run = compiled_steps(self.program, self.division, self.plan.plain_convolutions)
            # the old state is gone once it is handed over, so the new one has to arrive; and nothing may be under way
            # when the lock is free
            with one_at_a_time, uninterrupted():
                self.state, terms = run(self.state, images, inputs, count)
                jax.block_until_ready((self.state, terms))
            return {name: np.asarray(values, np.float64)[:count] for name, values in terms.items()}

    def evaluate(self, images: Float[np.ndarray, "N H W C"]) -> dict[str, float]:
        """Return the loss and its terms, as `Inference.evaluate` does, at the present weights."""
        return _evaluate(self.spec, self.state.variables, images)

    def tensors(self) -> dict[str, np.ndarray]:
        """Return a copy of the present weights."""
        return to_tensors(self.state.variables)

    def snapshot(self) -> Snapshot:
        """Return a copy of all that training changes."""
        return Snapshot(int(self.state.step), export_state(self.spec, self.state))

    def restore(self, snapshot: Snapshot) -> None:
        """Go on from there, as the training would have that it was taken from."""
        with _precision(self.spec):
            self.state = self._everywhere(import_state(self.spec, self.state, snapshot.tensors, snapshot.step))


class JaxEngine:
    """The JAX twin; see `ae_core.training.engine.Engine`."""

    name = "jax"
    variant = "jit, many steps a dispatch, a core is a device"

    def configure(self) -> None:
        """Prepare the CPU, and keep compiled programs for the next time.

        ``JAX_COMPILATION_CACHE_DIR`` has precedence.
        """
        configure_cpu()
        if jax.config.values["jax_compilation_cache_dir"] is None:
            jax.config.update("jax_compilation_cache_dir", str(_cache_folder()))

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

    def train(
        self, spec: Spec, tensors: Tensors, images: Float[np.ndarray, "N H W C"], plan: Plan | None = None
    ) -> Trainer:
        """Begin a training on these images from these weights."""
        return Trainer(spec, tensors, images, plan)


def _evaluate(spec: Spec, variables: Variables, images: np.ndarray) -> dict[str, float]:
    totals: dict[str, float] = {}
    program = program_of(spec, train=False)
    # what penalties say of a batch is not the sum of what they say of its parts, not here either
    whole = any(penalty.couples_samples for penalty in spec.penalties)
    with _precision(spec):
        for division, given, part, size in _batches(spec, variables, images, whole):
            mask = (np.arange(len(part)) < size).astype(part.dtype)
            with one_at_a_time:
                sums = jax.device_get(compiled_inference(program, "evaluate", division)(given, part, mask))
            for name, value in sums.items():
                totals[name] = totals.get(name, 0.0) + float(np.asarray(value, np.float64).sum())
    return {name: total / len(images) for name, total in totals.items()}


def _batches(
    spec: Spec, variables: Variables, array: np.ndarray, whole: bool = False
) -> Iterator[tuple[Division, Variables, np.ndarray, int]]:
    """Yield division, variables where it needs them, rows and their number without filler."""
    check_rows(array)
    everywhere = None
    # sizes are filled up to powers of two, so that few programs serve all
    size = min(INFERENCE_BATCH, 1 << (len(array) - 1).bit_length())
    division = divide(spec, size, Plan(devices=1, micro_batch=size) if whole else None, train=False)
    for start in range(0, len(array), INFERENCE_BATCH):
        part = array[start : start + INFERENCE_BATCH].astype(spec.training.precision, copy=False)
        given = variables
        if division.devices > 1:
            everywhere = everywhere or jax.device_put(variables, replicated(division.devices))
            given = everywhere
        filler = division.rows - len(part)
        rows = np.pad(part, ((0, filler), *((0, 0),) * (part.ndim - 1))) if filler else part
        yield division, given, rows, len(part)


def _cache_folder() -> Path:
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "twin-autoencoders" / "jax"


def _precision(spec: Spec) -> AbstractContextManager[Any]:
    context: AbstractContextManager[Any] = jax.enable_x64(spec.training.precision == "float64")
    return context


ENGINE = JaxEngine()
