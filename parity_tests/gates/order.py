"""The order gate: both twins are fed the same batches at every step, over epoch borders and after any resume.

What a training step receives is taken down where it receives it, after all that the engines do with it. Images, mask,
learning rate and coefficients are hashed, and held against the bytes that the seed prescribes. Noise is held against
the reference in NumPy: uniform numbers to the bit, normal ones within the rounding of their logarithms and cosines.
"""

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, NamedTuple
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
from ae_core.spec import Spec
from ae_core.training.engine import Engine, Trainer
from ae_core.training.initial import initial_weights
from ae_core.training.loop import Epoch, train
from ae_core.training.steps import make_steps
from parity_tests.batches import noise_of, one_step
from parity_tests.check import IDENTITY_LIMIT, Check

Images = Float[np.ndarray, "N H W C"]
EXACT = float(np.finfo(np.float64).tiny)
"""The limit of what is either equal or infinitely far: the smallest normal number, which only 0 is below."""
ENGINES: dict[str, Engine] = {"jax": ae_jax.engine.ENGINE, "torch": ae_torch.engine.ENGINE}


NORMAL_LIMIT = {"float32": 5.77 * (4 * np.pi + 8) * 2.0**-24, "float64": IDENTITY_LIMIT}
"""By how much a normal number may differ from the reference, 7e-6 in float32.

It is r·cos(2π·v) with r = √(−2·ln u) of at most 5.77. The product 2π·v of a rounded constant, up to 2π, is off by two
roundings of it, 4π·2⁻²⁴ in all, and so is the cosine or sine. Beside it, a cosine is off by 2 units in the last place,
4·2⁻²⁴, and a logarithm as well, of which the root keeps half; root and product add a rounding each. A wrong row, step
or site is some 1 off.
"""


class Received(NamedTuple):
    """What one training step receives."""

    digest: str
    """SHA-256 of images, mask, learning rate and coefficients."""
    noise: Mapping[str, np.ndarray]
    """By site."""


def received(
    images: Float[np.ndarray, "B H W C"],
    mask: Float[np.ndarray, " B"],
    learning_rate: float,
    coefficients: Mapping[str, float],
    noise: Mapping[str, Float[np.ndarray, "B ..."]],
    precision: str,
) -> Received:
    """Return what counts of one step's input, as shapes, dtypes and bytes.

    Samples whose mask is 0 only fill up a batch, and are left out. Learning rate and coefficients are hashed at the
    spec's precision: the PyTorch twin is handed the float64, the JAX twin rounds it before.
    """
    counts = mask != 0
    names = sorted(coefficients)
    numbers = np.array([learning_rate, *(coefficients[name] for name in names)], precision)
    digest = hashlib.sha256(" ".join(names).encode())
    for part in (images[counts], mask[counts], numbers):
        digest.update(f"{part.shape} {part.dtype} ".encode() + np.ascontiguousarray(part).tobytes())
    return Received(digest.hexdigest(), {site: values[counts] for site, values in noise.items()})


@contextmanager
def recorded() -> Iterator[dict[str, list[Received]]]:
    """Record what every step of either twin receives within the context, under the twin's name, in order."""
    seen: dict[str, list[Received]] = {"jax": [], "torch": []}
    # where the engines look them up, whatever stands there
    jax_original = vars(ae_jax.execution.dispatch)["make_training"]
    torch_original = vars(ae_torch.engine)["make_training"]

    def jax_training(model: Any, *options: Any) -> Any:
        training, precision = jax_original(model, *options), model.spec.training.precision

        def note(bits: Any) -> None:
            images, mask, rate, coefficients, noise = jax.tree.map(
                lambda part: np.asarray(part).view(precision)[..., 0], bits
            )
            plain = {name: float(value) for name, value in coefficients.items()}
            seen["jax"].append(received(images, mask, float(rate), plain, noise, precision))

        def step(state: Any, batch: Any) -> Any:
            inputs = (batch.images, batch.mask, batch.learning_rate, dict(batch.coefficients), dict(batch.noise))
            # as bytes: JAX calls back in whatever thread it likes, and would round float64 there to its own default
            bits = jax.tree.map(lambda array: lax.bitcast_convert_type(array, jnp.uint8), inputs)
            io_callback(note, None, bits, ordered=True)
            return training.step(state, batch)

        return training._replace(step=step)

    def torch_training(model: Any, *options: Any) -> Any:
        training, precision = torch_original(model, *options), model.spec.training.precision

        def step(state: Any, batch: Any) -> Any:
            images, noise = batch.images.cpu().numpy(), {site: v.cpu().numpy() for site, v in batch.noise.items()}
            mask = np.ones(len(images), images.dtype)
            coefficients = dict(batch.coefficients)
            seen["torch"].append(received(images, mask, batch.learning_rate, coefficients, noise, precision))
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


def predicted(spec: Spec, images: Images, seed: int, steps: int) -> list[Received]:
    """Return what the first steps of a training receive, as its seed prescribes."""
    precision, batches = spec.training.precision, []
    for step in range(steps):
        row = one_step(spec, len(images), seed, step)
        size = int(row.sizes[0])
        batch = images[row.indices[0, :size]].astype(precision), np.ones(size, precision)
        coefficients = {name: float(values[0]) for name, values in row.coefficients.items()}
        noise = noise_of(spec, seed, step, size)
        batches.append(received(*batch, float(row.learning_rates[0]), coefficients, noise, precision))
    return batches


def check_order(
    spec: Spec, images: Images, seed: int, epochs: int = 2, resume_at: tuple[int, ...] | None = None
) -> list[Check]:
    """Hold both twins to what is prescribed at every step of a training, and hold the prescription to its own rules.

    Each twin trains once by the product's own loop, in whatever chunks that chooses, and then anew from each step of
    ``resume_at`` (every step of the training when absent) to the end, an epoch at once. But for normal
    noise the differences are 0 or infinite: there is no such thing as nearly the same batch.
    """
    count = len(images)
    spec = replace(spec, training=replace(spec.training, epochs=epochs))
    per_epoch = steps_per_epoch(count, spec.training.batch_size)
    total = epochs * per_epoch
    expected = predicted(spec, images, seed, total)
    checks = _check_prescription(spec, count, seed, total)
    tensors = initial_weights(ae_torch.engine.ENGINE.shapes(spec), spec, seed)
    with recorded() as seen:
        for name, engine in ENGINES.items():
            train(engine, spec, images, images[:1], seed, _Silent(), lambda best: None, tensors)
            jax.effects_barrier()
            checks += _check_steps(spec, f"order, {name}", seen[name], expected, 0)
            for start in range(total) if resume_at is None else resume_at:
                seen[name].clear()
                _resume(engine.train(spec, tensors, images), spec, count, seed, start, total)
                checks += _check_steps(spec, f"order resumed at {start}, {name}", seen[name], expected, start)
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


def _check_steps(spec: Spec, name: str, seen: list[Received], expected: list[Received], start: int) -> list[Check]:
    wanted = expected[start:]
    checks = [_exact(name, "number of steps", len(seen) == len(wanted))]
    for i, (one, other) in enumerate(zip(seen, wanted, strict=False)):
        place = f"step {start + i + 1}"
        checks.append(_exact(name, place, one.digest == other.digest))
        checks.append(_exact(name, f"{place}, noise sites", one.noise.keys() == other.noise.keys()))
        for site in one.noise.keys() & other.noise.keys():
            checks.append(_noise(spec, name, f"{place}, noise at {site}", one.noise[site], other.noise[site], site))
    return checks


def _noise(spec: Spec, name: str, place: str, given: np.ndarray, right: np.ndarray, site: str) -> Check:
    """Compare one step's noise at a site, number by number."""
    precision, normal = spec.training.precision, spec.noise_sites[site].distribution == "normal"
    if given.shape != right.shape or given.dtype != precision or not np.isfinite(given).all():
        return _exact(name, place, False)
    if not normal:
        return _exact(name, place, np.array_equal(given, right))
    return Check(name, place, float(np.abs(given - right).max(initial=0.0)), NORMAL_LIMIT[precision])


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
    noises = [noise_of(spec, seed, step, int(row.sizes[0])) for step, row in enumerate(rows) if row.sizes[0]]
    for name, site in spec.noise_sites.items():
        noise = np.concatenate([each[name] for each in noises]).reshape(-1, site.size)
        # two uniform numbers of 23 bits may well be equal, but not two rows of them
        distinct = len(np.unique(noise, axis=0)) == len(noise)
        if site.distribution == "normal":
            distinct = len(np.unique(noise)) == noise.size
        checks.append(_exact("prescription", f"no noise at {name} comes twice", distinct))
    return checks


def _exact(name: str, place: str, same: bool) -> Check:
    return Check(name, place, 0.0 if same else float("inf"), EXACT)


class _Silent:
    def progress(self, epoch: int, step: int, total_steps: int, loss: float, images_per_second: float) -> None:
        """Say nothing."""

    def epoch(self, epoch: Epoch, best: bool) -> None:
        """Say nothing."""
