"""The training loop: epochs, held-out evaluation, best weights. The twins share it; each brings its engine.

It adds nothing to what a step computes: batches, noise, learning rates and coefficients are pure functions of the seed,
the epoch and the step.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Literal, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float

from ae_core.data import steps_per_epoch
from ae_core.errors import SpecError
from ae_core.spec import Spec
from ae_core.system.interrupt import Interrupt, interruptible
from ae_core.training.engine import Engine, Tensors, Trainer
from ae_core.training.initial import initial_weights
from ae_core.training.steps import make_steps

DISPATCH_SECONDS = 0.3
"""Steps are dispatched so many at a time that progress can be shown, and Ctrl-C answered, about this often."""


LEAST_SECONDS = 0.1
"""A throughput measured over less than this is noise, and is not reported."""


@dataclass(frozen=True)
class Epoch:
    """What one epoch came to; epoch 0 is the start, before any training."""

    epoch: int
    train: dict[str, float]
    """Loss and terms, averaged over the images as they were trained on; empty for epoch 0."""
    heldout: dict[str, float]
    """Loss and terms on the held-out images after the epoch."""
    seconds: float
    """Time of training and evaluation."""


@dataclass
class History:
    """The story of a training, and its best weights."""

    tensors: dict[str, np.ndarray]
    """The weights with the lowest held-out loss."""
    best_epoch: int = 0
    epochs: list[Epoch] = field(default_factory=list)
    step_losses: list[float] = field(default_factory=list)
    """Training loss at each step."""
    status: Literal["finished", "interrupted", "diverged"] = "finished"
    message: str = ""
    """Why the training ended early, in one line."""
    seconds: float = 0.0
    """Wall time, with compilation and evaluation."""
    images_per_second: float | None = None
    """Training throughput without the first dispatch, which compiles; None if the others took too little time."""


@runtime_checkable
class Watcher(Protocol):
    """Who watches a training."""

    def progress(self, epoch: int, step: int, total_steps: int, loss: float, images_per_second: float) -> None:
        """Steps were taken."""
        ...

    def epoch(self, epoch: Epoch, best: bool) -> None:
        """An epoch ended."""
        ...


class Silence:
    """Watches, and says nothing."""

    def progress(self, epoch: int, step: int, total_steps: int, loss: float, images_per_second: float) -> None:
        """Let steps pass."""

    def epoch(self, epoch: Epoch, best: bool) -> None:
        """Let an epoch pass."""


def train(
    engine: Engine,
    spec: Spec,
    images: Float[np.ndarray, "N H W C"],
    heldout: Float[np.ndarray, "M H W C"],
    seed: int,
    watcher: Watcher,
    keep: Callable[[dict[str, np.ndarray]], None],
    start: Tensors | None = None,
) -> History:
    """Train a model and return its best weights with the story of the training.

    Ctrl-C ends the training at the next dispatch, with what is best by then; so does a loss that is not finite.

    Args:
        engine: the twin that trains.
        spec: the model and its training.
        images: to train on.
        heldout: images that decide which weights are best.
        seed: of initial weights, batch order and noise.
        watcher: is told of steps and epochs.
        keep: is given the weights each time they are the best so far, the initial ones first.
        start: initial weights; drawn from the seed when absent.

    Raises:
        SpecError: see `check_batches`.
    """
    check_batches(spec, len(images))
    began = time.perf_counter()
    shapes = engine.shapes(spec)
    trainer = engine.train(spec, start or initial_weights(shapes, spec, seed), images)
    result = History(trainer.tensors())
    best = _Best(trainer, heldout, keep, result)
    with interruptible() as interrupt:
        watcher.epoch(best.judge(0, {}, began), True)
        clock = _Clock()
        for epoch in range(spec.training.epochs):
            started = time.perf_counter()
            means = _train_epoch(spec, trainer, len(images), seed, epoch, result, watcher, clock, interrupt)
            if result.status == "diverged":
                break
            known = result.best_epoch
            watcher.epoch(best.judge(epoch + 1, means, started), result.best_epoch != known)
            if interrupt.requested:
                result.status, result.message = "interrupted", f"interrupted in epoch {epoch + 1}"
                break
            if not np.isfinite(result.epochs[-1].heldout["loss"]):
                result.status = "diverged"
                result.message = f"the held-out loss is not finite after epoch {epoch + 1}"
                break
    result.seconds = time.perf_counter() - began
    result.images_per_second = clock.measured
    return result


class _Best:
    def __init__(
        self, trainer: Trainer, heldout: np.ndarray, keep: Callable[[dict[str, np.ndarray]], None], result: History
    ) -> None:
        self.trainer, self.heldout, self.keep, self.result = trainer, heldout, keep, result
        self.loss = np.inf

    def judge(self, epoch: int, means: dict[str, float], started: float) -> Epoch:
        terms = self.trainer.evaluate(self.heldout)
        if epoch == 0 or terms["loss"] < self.loss:
            self.loss = terms["loss"] if np.isfinite(terms["loss"]) else np.inf
            self.result.tensors, self.result.best_epoch = self.trainer.tensors(), epoch
            self.keep(self.result.tensors)
        self.result.epochs.append(Epoch(epoch, means, terms, time.perf_counter() - started))
        return self.result.epochs[-1]


class _Clock:
    """Adds up images and seconds, but for the first dispatch."""

    def __init__(self) -> None:
        self.images, self.seconds, self.first = 0, 0.0, True

    def add(self, images: int, seconds: float) -> None:
        if not self.first:
            self.images, self.seconds = self.images + images, self.seconds + seconds
        self.first = False

    @property
    def rate(self) -> float | None:
        return self.images / self.seconds if self.seconds else None

    @property
    def measured(self) -> float | None:
        return self.rate if self.seconds >= LEAST_SECONDS else None


def _train_epoch(
    spec: Spec,
    trainer: Trainer,
    count: int,
    seed: int,
    epoch: int,
    result: History,
    watcher: Watcher,
    clock: _Clock,
    interrupt: Interrupt,
) -> dict[str, float]:
    per_epoch = steps_per_epoch(count, spec.training.batch_size)
    sums: dict[str, float] = {}
    seen, position = 0, 0
    for number in _chunks(per_epoch, trainer, clock, spec.training.batch_size):
        steps = make_steps(spec, count, seed, epoch, position, number)
        started = time.perf_counter()
        terms = trainer.advance(steps)
        clock.add(int(steps.sizes.sum()), time.perf_counter() - started)
        result.step_losses += terms["loss"].tolist()
        bad = np.flatnonzero(~np.isfinite(terms["loss"]))
        if len(bad):
            where = f"epoch {epoch + 1}, step {position + bad[0] + 1} of {per_epoch}"
            rate = f"at learning rate {steps.learning_rates[bad[0]]:.3g}"
            result.status, result.message = "diverged", f"the loss is {terms['loss'][bad[0]]} in {where}, {rate}"
            return {}
        for name, values in terms.items():
            sums[name] = sums.get(name, 0.0) + float(values @ steps.sizes)
        seen, position = seen + int(steps.sizes.sum()), position + number
        done, total = epoch * per_epoch + position, per_epoch * spec.training.epochs
        watcher.progress(epoch + 1, done, total, float(terms["loss"][-1]), clock.rate or 0.0)
        if interrupt.requested:
            break
    return {name: total / seen for name, total in sums.items()}


def _chunks(per_epoch: int, trainer: Trainer, clock: _Clock, batch: int) -> Iterator[int]:
    left = per_epoch
    while left:
        wanted = 1 if clock.rate is None else int(DISPATCH_SECONDS * clock.rate / batch)
        number = max(1, min(wanted, left, trainer.capacity))
        yield number
        left -= number


def check_batches(spec: Spec, count: int) -> None:
    """Refuse batches that are too small for the model.

    Raises:
        SpecError: a batch of a single vector, for one, has no variance for batch norm to divide by.
    """
    least, batch = spec.backbone.smallest_batch(spec.input_shape), spec.training.batch_size
    last = count % batch or batch
    if min(batch, last) < least:
        raise SpecError(
            f"training.batch_size: given {batch}, which leaves a batch of {min(batch, last)} of {count} images; "
            f"expected at least {least} in every batch, for a normalisation over the batch"
        )
