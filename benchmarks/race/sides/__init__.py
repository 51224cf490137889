"""Who races: the sides, and the published grid of variants of each. No framework is imported here."""

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from typing import Literal, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float

from ae_core.errors import UserError, nearest
from benchmarks.race.workloads import Phase, Workload

Framework = Literal["jax", "torch"]


@runtime_checkable
class Runner(Protocol):
    """One side, ready to take steps at a workload. Every call returns when its numbers are on the host."""

    def take(self, steps: int, first: int = 0) -> Float[np.ndarray, "..."]:
        """Take steps of the workload from ``first`` on and wait for them.

        Training returns the loss of each step, [steps] or [steps, models]; inference the outputs of the last step.
        """
        ...

    def settle(self) -> None:
        """Wait for whatever may still be under way; a runner that did wait takes no time for it."""
        ...


@dataclass(frozen=True)
class Side:
    """One side of the race."""

    name: str
    label: str
    framework: Framework
    module: str
    """Has ``open_runner(workload, variant) -> Runner``."""
    packages: tuple[str, ...]
    """What has to be installed."""
    grid: Callable[[Workload], tuple[str, ...]]
    """Variants at a workload, the default first; none where the side has nothing to bring."""
    ours: bool = False
    environment: tuple[tuple[str, str], ...] = ()
    """Variables of its process."""

    def missing(self) -> str | None:
        """Say in one line why it cannot run here, or None."""
        absent = [package for package in self.packages if find_spec(package) is None]
        return f"not run: {', '.join(absent)} not installed" if absent else None

    def open(self, workload: Workload, variant: str) -> Runner:
        """Return the side's runner."""
        runner: Runner = import_module(self.module).open_runner(workload, variant)
        return runner


SLOW_BATCH = 32
"""The batch at which convolutions that take seconds a step are raced too; at larger ones they would take hours."""
JAX_TRAIN = ("default", "one device", "whole batch", "plain convolutions", "single steps")
"""Our JAX: as the command line runs it; on one core; without micro-batches; with JAX's own convolutions; and with one
step a dispatch."""
TORCH_TRAIN = ("channels_last", "eager", "compile", "max-autotune")
TORCH_PARTS = ("micro-batches", "compile+micro-batches")
TORCH_INFER = ("channels_last", "eager", "compile", "max-autotune")
TORCH_TRAIN_ONCE, TORCH_INFER_ONCE = ("compile+optimizer", "reduce-overhead"), ("reduce-overhead",)
"""Raced at batches of 128, and of 256 in inference, alone: on a CPU reduce-overhead compiles what compile does, and an
optimiser that is compiled has not been ahead of its fused kernel. Only there too what convolutions with a copy of each
input for its padding take."""


def _jax(workload: Workload) -> tuple[str, ...]:
    conv = tuple(v for v in JAX_TRAIN if v != "plain convolutions" or workload.batch <= SLOW_BATCH)
    grids: dict[Phase, tuple[str, ...]] = {
        "train": conv if workload.convolves and workload.same else ("default", "one device", "single steps"),
        "many": ("in turn", "vmap", "vmap, single steps"),
        "quality": ("default",),
    }
    return grids.get(workload.phase, ("default",))


def _torch(workload: Workload) -> tuple[str, ...]:
    parts = TORCH_PARTS if workload.convolves and workload.batch > 32 else ()
    padded = ("padded",) if workload.convolves and workload.same else ()
    train = TORCH_TRAIN + (TORCH_TRAIN_ONCE + padded if workload.batch == 128 else ())
    infer = TORCH_INFER + (TORCH_INFER_ONCE + padded if workload.batch == 256 else ())
    # where the engine cuts by itself, that is the default, and comes first
    grids: dict[Phase, tuple[str, ...]] = {
        "train": parts + train if workload.batch > 128 else train + parts,
        "many": ("func", "func+compile", "in turn"),
        "quality": ("channels_last", "compile"),
    }
    return grids.get(workload.phase, parts + infer)


def _flax(workload: Workload) -> tuple[str, ...]:
    if workload.phase != "train" or not workload.same:
        return ()
    return ("loop",) if workload.convolves and workload.batch != SLOW_BATCH else ("loop", "scan")


def _conv_training(variant: str) -> Callable[[Workload], tuple[str, ...]]:
    return lambda workload: (variant,) if workload.phase == "train" and workload.convolves and workload.same else ()


_ALL = (
    Side("jax", "ours, JAX", "jax", "benchmarks.race.sides.ours_jax", ("jax", "flax", "optax"), _jax, ours=True),
    Side("torch", "ours, PyTorch", "torch", "benchmarks.race.sides.ours_torch", ("torch",), _torch, ours=True),
    Side(
        "flax",
        "plain Flax",
        "jax",
        "benchmarks.race.sides.plain_flax",
        ("jax", "flax", "optax"),
        _flax,
    ),
    *(
        Side(
            f"keras-{backend}",
            f"Keras 3 on {backend}",
            backend,
            "benchmarks.race.sides.peer_keras",
            ("keras", backend),
            _conv_training("train_on_batch"),
            environment=(("KERAS_BACKEND", backend),),
        )
        for backend in ("jax", "torch")
    ),
    Side(
        "pythae", "pythae", "torch", "benchmarks.race.sides.peer_pythae", ("pythae", "torch"), _conv_training("eager")
    ),
)
SIDES: dict[str, Side] = {side.name: side for side in _ALL}


def choose_sides(names: tuple[str, ...]) -> list[Side]:
    """Return the sides of those names; without names all.

    Raises:
        UserError: there is none of that name; the nearest is given.
    """
    for name in names:
        if name not in SIDES:
            raise UserError(f'--side: unknown side "{name}"; {nearest(name, SIDES)}')
    return [SIDES[name] for name in dict.fromkeys(names or SIDES)]
