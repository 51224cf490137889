"""The sides of the race, each with a published grid of variants. No framework is imported here."""

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from typing import Literal, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float

from ae_core.errors import SpecError, UserError, nearest
from ae_core.spec import Spec
from benchmarks.race.sides.peer import check_flax, check_keras, check_pythae
from benchmarks.race.workloads import PairWorkload, Phase, Timed, Workload

Framework = Literal["jax", "torch"]


@runtime_checkable
class Runner(Protocol):
    """A side's model, ready to take steps of a workload. Every call returns once its results are on the host."""

    def take(self, steps: int, first: int = 0) -> Float[np.ndarray, "..."]:
        """Take ``steps`` steps of the workload, from step ``first`` on, and wait for them.

        Training returns the loss of each step, [steps] or [steps, models]; inference the outputs of the last step.
        """
        ...

    def settle(self) -> None:
        """Wait for whatever may still be under way, which takes no time if `take` has waited as it should."""
        ...


@dataclass(frozen=True)
class Side:
    """One side of the race."""

    name: str
    label: str
    framework: Framework
    module: str
    """Name of the module that has ``open_runner(workload, variant) -> Runner``."""
    packages: tuple[str, ...]
    """Packages that it needs."""
    grid: Callable[[Workload], tuple[str, ...]]
    """Returns the variants to race at a spec's workload, the default first; none where the side does not take part."""
    check: Callable[[Spec], object] | None = None
    """Raises `SpecError` for a model that the side cannot build; None where only building one tells."""
    ours: bool = False
    """Whether it is one of the two that the race is about: the twins, or the sides of a pair."""
    pair_grid: Callable[[PairWorkload], tuple[str, ...]] = lambda workload: ()
    """Returns the same at a pair's workload."""
    environment: tuple[tuple[str, str], ...] = ()
    """Environment variables of its process."""

    def missing(self) -> str | None:
        """Return in one line why it cannot run here, None if it can."""
        absent = [package for package in self.packages if find_spec(package) is None]
        return f"not run: {', '.join(absent)} not installed" if absent else None

    def variants(self, workload: Timed) -> tuple[str, ...]:
        """Return the variants to race at a workload, the default first; none where the side does not take part."""
        if isinstance(workload, PairWorkload):
            return self.pair_grid(workload)
        assert isinstance(workload, Workload)
        return self.grid(workload)

    def refusal(self, workload: Timed) -> str | None:
        """Return in one line what of the workload's model the side cannot build, None where nothing is known of it."""
        try:
            if self.check is not None and isinstance(workload, Workload):
                self.check(workload.spec)
        except SpecError as error:
            return str(error)
        return None

    def open(self, workload: Timed, variant: str) -> Runner:
        """Return the side's runner of a variant.

        Raises:
            SpecError: the side cannot build the workload's model.
        """
        runner: Runner = import_module(self.module).open_runner(workload, variant)
        return runner


SLOW_BATCH = 32
"""The batch size up to which convolutions that take seconds a step are raced too; larger ones would take hours."""
JAX_TRAIN = ("default", "one device", "whole batch", "plain convolutions", "single steps")
"""Variants of our JAX: as the command line runs it; on one core; without micro-batches; with JAX's own convolutions;
with one step a dispatch. Those that a model has no use for are left out."""
TORCH_TRAIN = ("channels_last", "eager", "compile", "max-autotune")
TORCH_PARTS = ("micro-batches", "compile+micro-batches")
TORCH_INFER = ("channels_last", "eager", "compile", "max-autotune")
TORCH_TRAIN_ONCE, TORCH_INFER_ONCE = ("compile+optimizer", "reduce-overhead"), ("reduce-overhead",)
"""Variants raced at a batch of 128 only, and of 256 in inference: on a CPU reduce-overhead compiles what compile does,
and a compiled optimiser has not been ahead of its fused kernel. The same holds for "padded", convolutions that copy
each input for its padding."""


def _jax(workload: Workload) -> tuple[str, ...]:
    coupled = workload.spec.couples_samples  # then a batch is never divided, and these are the default
    same = {"one device": coupled, "whole batch": coupled or not workload.convolves}
    same["plain convolutions"] = not workload.convolves or workload.batch > SLOW_BATCH
    grids: dict[Phase, tuple[str, ...]] = {
        "train": tuple(variant for variant in JAX_TRAIN if not same.get(variant)),
        "many": ("in turn", "vmap", "vmap, single steps"),
        "quality": ("default",),
    }
    return grids.get(workload.phase, ("default",))


def _torch(workload: Workload) -> tuple[str, ...]:
    apart = not (workload.trains and workload.spec.couples_samples)
    parts = TORCH_PARTS if workload.convolves and workload.batch > 32 and apart else ()
    padded = ("padded",) if workload.convolves else ()
    train = TORCH_TRAIN + (TORCH_TRAIN_ONCE + padded if workload.batch == 128 else ())
    infer = TORCH_INFER + (TORCH_INFER_ONCE + padded if workload.batch == 256 else ())
    # where the engine divides its batches by itself, that is the default and comes first
    grids: dict[Phase, tuple[str, ...]] = {
        "train": parts + train if workload.batch > 128 else train + parts,
        "many": ("func", "func+compile", "in turn"),
        "quality": ("channels_last", "compile"),
    }
    return grids.get(workload.phase, parts + infer)


def _flax(workload: Workload) -> tuple[str, ...]:
    slow = workload.convolves and workload.batch > SLOW_BATCH
    return _training("loop")(workload) if slow else _training("loop", "scan")(workload)


PAIR_TRAIN, PAIR_FORWARD = ("eager", "fused", "compile"), ("eager", "compile")
"""Variants of a pair's PyTorch: as it is; with a fused optimiser; compiled, with a fused optimiser too."""


def _pair_torch(workload: PairWorkload) -> tuple[str, ...]:
    return PAIR_TRAIN if workload.trains else PAIR_FORWARD


def _no_spec(workload: Workload) -> tuple[str, ...]:
    return ()


def _training(*variants: str) -> Callable[[Workload], tuple[str, ...]]:
    return lambda workload: variants if workload.phase == "train" else ()


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
        check_flax,
    ),
    *(
        Side(
            f"keras-{backend}",
            f"Keras 3 on {backend}",
            backend,
            "benchmarks.race.sides.peer_keras",
            ("keras", backend),
            _training("train_on_batch"),
            check_keras,
            environment=(("KERAS_BACKEND", backend),),
        )
        for backend in ("jax", "torch")
    ),
    Side(
        "pythae",
        "pythae",
        "torch",
        "benchmarks.race.sides.peer_pythae",
        ("pythae", "torch"),
        _training("eager"),
        check_pythae,
    ),
    Side(
        "pair-jax",
        "the pair's JAX",
        "jax",
        "benchmarks.race.sides.pair_jax",
        ("jax", "optax", "torch"),
        _no_spec,
        ours=True,
        pair_grid=lambda workload: ("jit",),
    ),
    Side(
        "pair-torch",
        "the pair's PyTorch",
        "torch",
        "benchmarks.race.sides.pair_torch",
        ("jax", "torch"),
        _no_spec,
        ours=True,
        pair_grid=_pair_torch,
    ),
)
SIDES: dict[str, Side] = {side.name: side for side in _ALL}


def choose_sides(names: tuple[str, ...]) -> list[Side]:
    """Return the sides with these names; without names all.

    Raises:
        UserError: a name is unknown; the nearest is given.
    """
    for name in names:
        if name not in SIDES:
            raise UserError(f'--side: unknown side "{name}"; {nearest(name, SIDES)}')
    return [SIDES[name] for name in dict.fromkeys(names or SIDES)]
