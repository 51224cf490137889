"""The order gate: both twins are fed the same bytes at every step, over epoch borders and after any resume.

What a training step receives is hashed where it receives it: images, noise, number of images and learning rate, after
all that the engines do with them. The hashes are held against those of the batches that the seed prescribes.
"""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any
from unittest.mock import patch

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.experimental import io_callback
from jaxtyping import Float

import ae_jax.engine
import ae_jax.execution.dispatch
import ae_torch.engine
from ae_core.data import steps_per_epoch
from ae_core.spec import GaussianBottleneck, Spec
from ae_core.training.engine import Engine, Steps, Trainer
from ae_core.training.initial import initial_weights
from ae_core.training.loop import Epoch, fit, make_steps
from parity_tests.check import Check

Images = Float[np.ndarray, "N H W C"]
EXACT = float(np.finfo(np.float64).tiny)
"""The limit of what is either equal or infinitely far: the smallest normal number, which only 0 is below."""
ENGINES: dict[str, Engine] = {"jax": ae_jax.engine.ENGINE, "torch": ae_torch.engine.ENGINE}


def step_hash(
    images: Float[np.ndarray, "B H W C"],
    noise: Float[np.ndarray, "B L"],
    weight: Float[np.ndarray, " B"],
    learning_rate: float,
    precision: str,
) -> str:
    """Return the SHA-256 of one step's input: shapes, dtypes and bytes of all that counts.

    Samples of weight 0 only fill up a batch, and are left out. The learning rate is hashed at the spec's precision:
    the PyTorch twin hands its optimiser the float64, the JAX twin rounds it before.
    """
    counts = weight != 0
    parts = (images[counts], noise[counts], weight[counts], np.array(learning_rate, precision))
    digest = hashlib.sha256()
    for part in parts:
        digest.update(f"{part.shape} {part.dtype} ".encode() + np.ascontiguousarray(part).tobytes())
    return digest.hexdigest()


@contextmanager
def recorded() -> Iterator[dict[str, list[str]]]:
    """Record the hash of every step that either twin takes within the context, under the twin's name, in order."""
    seen: dict[str, list[str]] = {"jax": [], "torch": []}
    # where the engines look them up, whatever stands there
    jax_original = vars(ae_jax.execution.dispatch)["make_training"]
    torch_original = vars(ae_torch.engine)["make_training"]

    def note(precision: str, *bits: Any) -> None:
        images, noise, weight, learning_rate = (np.asarray(part).view(precision)[..., 0] for part in bits)
        seen["jax"].append(step_hash(images, noise, weight, float(learning_rate), precision))

    def jax_training(model: Any, *options: Any) -> Any:
        training, precision = jax_original(model, *options), model.spec.training.precision

        def step(state: Any, batch: Any) -> Any:
            inputs = (batch.images, batch.noise, batch.weight, batch.learning_rate)
            # as bytes: JAX calls back in whatever thread it likes, and would round float64 there to its own default
            bits = [lax.bitcast_convert_type(array, jnp.uint8) for array in inputs]
            io_callback(lambda *parts: note(precision, *parts), None, *bits, ordered=True)
            return training.step(state, batch)

        return training._replace(step=step)

    def torch_training(model: Any, *options: Any) -> Any:
        training, precision = torch_original(model, *options), model.spec.training.precision

        def step(state: Any, batch: Any) -> Any:
            images, noise = batch.images.cpu().numpy(), batch.noise.cpu().numpy()
            weight = np.ones(len(images), images.dtype)
            seen["torch"].append(step_hash(images, noise, weight, batch.learning_rate, precision))
            return training.step(state, batch)

        return training._replace(step=step)

    # compiled steps outlive a training: neither may one from before be used here, nor one from here afterwards
    ae_jax.execution.dispatch.compiled_steps.cache_clear()
    try:
        with (
            patch.object(ae_jax.execution.dispatch, "make_training", jax_training),
            patch.object(ae_torch.engine, "make_training", torch_training),
        ):
            yield seen
    finally:
        jax.effects_barrier()
        ae_jax.execution.dispatch.compiled_steps.cache_clear()


def one_step(spec: Spec, count: int, seed: int, step: int) -> Steps:
    """Return one step of a training, counted from its start."""
    epoch, first = divmod(step, steps_per_epoch(count, spec.training.batch_size))
    return make_steps(spec, count, seed, epoch, first, 1)


def predicted(spec: Spec, images: Images, seed: int, steps: int) -> list[str]:
    """Return the hashes of the first steps of a training, as its seed prescribes them."""
    precision, hashes = spec.training.precision, []
    for step in range(steps):
        row = one_step(spec, len(images), seed, step)
        size = int(row.sizes[0])
        batch = images[row.indices[0, :size]].astype(precision), row.noise[0, :size].astype(precision)
        hashes.append(step_hash(*batch, np.ones(size, precision), float(row.learning_rates[0]), precision))
    return hashes


def check_order(
    spec: Spec, images: Images, seed: int, epochs: int = 2, resume_at: tuple[int, ...] | None = None
) -> list[Check]:
    """Hold both twins to the prescribed bytes at every step of a training, and hold the prescription to its own rules.

    Each twin trains once by the product's own loop, in whatever chunks that chooses, and then anew from each step of
    ``resume_at`` (every step of the training when absent) to the end, an epoch at once. The differences are 0 or
    infinite: there is no such thing as nearly the same batch.
    """
    count = len(images)
    spec = replace(spec, training=replace(spec.training, epochs=epochs))
    per_epoch = steps_per_epoch(count, spec.training.batch_size)
    total = epochs * per_epoch
    expected = predicted(spec, images, seed, total)
    checks = _check_prescription(spec, count, seed, total)
    tensors = initial_weights(ae_torch.engine.ENGINE.shapes(spec), spec.initializer, seed)
    with recorded() as seen:
        for name, engine in ENGINES.items():
            fit(engine, spec, images, images[:1], seed, _Silent(), lambda best: None, tensors)
            jax.effects_barrier()
            checks += _check_hashes(f"order, {name}", seen[name], expected, 0)
            for start in range(total) if resume_at is None else resume_at:
                seen[name].clear()
                _resume(engine.train(spec, tensors, images), spec, count, seed, start, total)
                checks += _check_hashes(f"order resumed at {start}, {name}", seen[name], expected, start)
    return checks


def _resume(trainer: Trainer, spec: Spec, count: int, seed: int, start: int, total: int) -> None:
    per_epoch = steps_per_epoch(count, spec.training.batch_size)
    done = start
    while done < total:
        epoch, first = divmod(done, per_epoch)
        number = min(trainer.capacity, per_epoch - first)
        trainer.advance(make_steps(spec, count, seed, epoch, first, number))
        done += number
    jax.effects_barrier()


def _check_hashes(name: str, seen: list[str], expected: list[str], start: int) -> list[Check]:
    wanted = expected[start:]
    checks = [_exact(name, "number of steps", len(seen) == len(wanted))]
    for i, (one, other) in enumerate(zip(seen, wanted, strict=False)):
        checks.append(_exact(name, f"step {start + i + 1}", one == other))
    return checks


def _check_prescription(spec: Spec, count: int, seed: int, total: int) -> list[Check]:
    """Check that every epoch visits each image once, in an order of its own, and that no noise comes twice."""
    per_epoch = steps_per_epoch(count, spec.training.batch_size)
    rows = [one_step(spec, count, seed, step) for step in range(total)]
    orders = [
        np.concatenate([row.indices[0, : row.sizes[0]] for row in rows[first : first + per_epoch]])
        for first in range(0, total, per_epoch)
    ]
    checks = []
    for i, order in enumerate(orders):
        complete = np.array_equal(np.sort(order), np.arange(count))
        checks.append(_exact("prescription", f"epoch {i + 1} visits each image once", complete))
    if count > 3:  # up to three images have so few orders that two epochs may well share one
        distinct = len({order.tobytes() for order in orders}) == len(orders)
        checks.append(_exact("prescription", "each epoch has an order of its own", distinct))
    if isinstance(spec.bottleneck, GaussianBottleneck):
        noise = np.concatenate([row.noise[0] for row in rows])
        checks.append(_exact("prescription", "no noise comes twice", len(np.unique(noise)) == noise.size))
    return checks


def _exact(name: str, place: str, same: bool) -> Check:
    return Check(name, place, 0.0 if same else float("inf"), EXACT)


class _Silent:
    def progress(self, epoch: int, step: int, total_steps: int, loss: float, images_per_second: float) -> None:
        """Say nothing."""

    def epoch(self, epoch: Epoch, best: bool) -> None:
        """Say nothing."""
