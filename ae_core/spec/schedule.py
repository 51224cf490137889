"""Schedules: numbers that change with the step, worked out once in float64 and handed to both twins.

One scales the learning rate; others stand where a component takes a number or a schedule, such as the weight of a term
of the loss. Evaluation takes a schedule's last value, so that the losses of all epochs can be compared.
"""

import math
from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar

from ae_core.spec.component import MAX_STEPS, Component, check, check_integers


class Schedule(Component):
    """A number for each step of a training."""

    family: ClassVar[str] = "schedule"

    @abstractmethod
    def value(self, step: int, total_steps: int) -> float:
        """Return the number of a step (counted from 0) of a training of ``total_steps``."""
        raise NotImplementedError

    @property
    @abstractmethod
    def last(self) -> float:
        """The number that it comes to, which evaluation takes."""
        raise NotImplementedError


class _WarmedUp(Schedule):
    warmup_steps: int

    def value(self, step: int, total_steps: int) -> float:
        """Return the warm-up's number, or what comes after it."""
        return (step + 1) / self.warmup_steps if step < self.warmup_steps else self._after(step, total_steps)

    @abstractmethod
    def _after(self, step: int, total_steps: int) -> float:
        raise NotImplementedError


@dataclass(frozen=True)
class Constant(_WarmedUp):
    """1, after a linear warm-up."""

    kind: ClassVar[str] = "constant"
    warmup_steps: int = 0
    """Linear warm-up: step t < warmup_steps has (t + 1) / warmup_steps."""

    def __post_init__(self) -> None:
        check_integers("warmup_steps", (self.warmup_steps,), 0, MAX_STEPS)

    def _after(self, step: int, total_steps: int) -> float:
        return 1.0

    @property
    def last(self) -> float:
        """1."""
        return 1.0


@dataclass(frozen=True)
class Cosine(_WarmedUp):
    """Half a cosine from 1 to ``final`` over the steps after a linear warm-up.

    Source: Loshchilov & Hutter (2017), eq. 5, without restarts.
    """

    kind: ClassVar[str] = "cosine"
    warmup_steps: int = 0
    """Linear warm-up: step t < warmup_steps has (t + 1) / warmup_steps."""
    final: float = 0.0
    """Where the cosine ends."""

    def __post_init__(self) -> None:
        check_integers("warmup_steps", (self.warmup_steps,), 0, MAX_STEPS)
        check(0 <= self.final <= 1, "final", self.final, "a number in [0, 1]")

    def _after(self, step: int, total_steps: int) -> float:
        progress = min((step - self.warmup_steps) / max(total_steps - self.warmup_steps, 1), 1.0)
        return self.final + (1 - self.final) * 0.5 * (1 + math.cos(math.pi * progress))

    @property
    def last(self) -> float:
        """Where it ends."""
        return self.final


@dataclass(frozen=True)
class Ramp(Schedule):
    """A straight line from ``start`` to ``end`` over some steps, and ``end`` from there on.

    From 0 it is the warm-up of a KL term's weight (Bowman et al., 2016, section 3.1), or the capacity of a code that
    may hold more and more (Burgess et al., 2018, section 5.2).
    """

    kind: ClassVar[str] = "ramp"
    start: float
    """At step 0."""
    end: float
    """From step ``steps`` on, and in evaluation."""
    steps: int
    """How long the way is."""

    def __post_init__(self) -> None:
        check(self.start >= 0, "start", self.start, "a number of at least 0")
        check(self.end >= 0, "end", self.end, "a number of at least 0")
        check_integers("steps", (self.steps,), 1, MAX_STEPS)

    def value(self, step: int, total_steps: int) -> float:
        """Return the line."""
        return self.start + (self.end - self.start) * min(step / self.steps, 1.0)

    @property
    def last(self) -> float:
        """Where it ends."""
        return self.end


@dataclass(frozen=True)
class Cyclical(Schedule):
    """Rises from 0 to ``high`` again and again, in equal cycles over the training; each ends with a rest at ``high``.

    Source: Fu et al. (2019), "Cyclical annealing schedule", eq. 6 and 7.
    """

    kind: ClassVar[str] = "cyclical"
    high: float = 1.0
    """Where each cycle ends, and what evaluation has."""
    cycles: int = 4
    """How many there are in a training."""
    rising: float = 0.5
    """Share of a cycle in which it rises."""

    def __post_init__(self) -> None:
        check(self.high >= 0, "high", self.high, "a number of at least 0")
        check_integers("cycles", (self.cycles,), 1, MAX_STEPS)
        check(0 < self.rising <= 1, "rising", self.rising, "a number in (0, 1]")

    def value(self, step: int, total_steps: int) -> float:
        """Return the saw, cut off at ``high``."""
        length = math.ceil(total_steps / self.cycles)
        return self.high * min((step % length) / length / self.rising, 1.0)

    @property
    def last(self) -> float:
        """Where each cycle ends."""
        return self.high
