"""Optimisers, with every hyper-parameter."""

from dataclasses import dataclass
from typing import ClassVar

from ae_core.spec.component import Component, check


class Optimizer(Component):
    """How gradients change parameters. Every kind has a ``learning_rate``, the peak that the schedule scales."""

    family: ClassVar[str] = "optimizer"
    learning_rate: float

    @property
    def decay(self) -> float:
        """Share of a parameter that a step at learning rate 1 takes away by itself."""
        return 0.0


class _Moments(Optimizer):
    learning_rate: float
    b1: float
    b2: float
    eps: float

    def __post_init__(self) -> None:
        check(self.learning_rate > 0, "learning_rate", self.learning_rate, "a number above 0")
        check(0 <= self.b1 < 1, "b1", self.b1, "a number in [0, 1)")
        check(0 <= self.b2 < 1, "b2", self.b2, "a number in [0, 1)")
        check(self.eps > 0, "eps", self.eps, "a number above 0")


@dataclass(frozen=True)
class Adam(_Moments):
    """Adam (Kingma & Ba, 2015, algorithm 1): eps is added to the root of the corrected second moment."""

    kind: ClassVar[str] = "adam"
    learning_rate: float = 1e-3
    """Peak learning rate; the schedule scales it."""
    b1: float = 0.9
    """Decay of the first moment."""
    b2: float = 0.999
    """Decay of the second moment."""
    eps: float = 1e-8
    """Added outside the root."""


@dataclass(frozen=True)
class AdamW(_Moments):
    """Adam with decoupled weight decay (Loshchilov & Hutter, 2019), on every parameter."""

    kind: ClassVar[str] = "adamw"
    learning_rate: float = 1e-3
    """Peak learning rate; the schedule scales it."""
    b1: float = 0.9
    """Decay of the first moment."""
    b2: float = 0.999
    """Decay of the second moment."""
    eps: float = 1e-8
    """Added outside the root."""
    weight_decay: float = 1e-2
    """Each step also takes learning rate × weight_decay × parameter away."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check(self.weight_decay >= 0, "weight_decay", self.weight_decay, "a number of at least 0")

    @property
    def decay(self) -> float:
        """Return the weight decay."""
        return self.weight_decay


@dataclass(frozen=True)
class SGD(Optimizer):
    """Gradient descent with heavy-ball momentum: v ← momentum·v + g, parameter ← parameter − learning rate·v."""

    kind: ClassVar[str] = "sgd"
    learning_rate: float = 1e-2
    """Peak learning rate; the schedule scales it."""
    momentum: float = 0.9
    """Share of the last velocity that is kept; without dampening, not Nesterov's."""

    def __post_init__(self) -> None:
        check(self.learning_rate > 0, "learning_rate", self.learning_rate, "a number above 0")
        check(0 <= self.momentum < 1, "momentum", self.momentum, "a number in [0, 1)")
