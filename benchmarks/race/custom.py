"""The workloads of a model that a user brings: a preset, a spec, or a pair, at phases and batches that he names."""

import math
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple, get_args

from ae_core.errors import SpecError, UserError, nearest
from ae_core.spec import Spec, load_spec, spec_to_json
from ae_core.spec.component import MAX_STEPS
from ae_core.spec.presets import preset
from ae_core.training.initial import check_size
from ae_core.training.loop import check_batches
from benchmarks.race.process import Refusal, WorkerError
from benchmarks.race.session import CHECKED_STEPS
from benchmarks.race.sides import SIDES, Side
from benchmarks.race.sides.engine import QUALITY_IMAGES, QUALITY_SHARE
from benchmarks.race.workloads import MANY, PairPhase, PairWorkload, Phase, Timed, Workload, with_batch

PHASES: tuple[Phase, ...] = get_args(Phase)
PAIR_PHASES: tuple[PairPhase, ...] = get_args(PairPhase)
USUAL: tuple[Phase, ...] = ("train", "encode", "decode", "reconstruct")
"""Phases where none is named."""
IMAGES, BYTES = 2**14, 2**28
"""Images of a training's data set, and bytes of them, if only it has some steps."""
LEAST_STEPS, MOST_STEPS = CHECKED_STEPS + 1, 256
"""Steps in a pass over it."""

Shapes = dict[str, tuple[int, ...]]
Ask = Callable[[str, dict[str, Any]], dict[str, Any]]
"""Has a worker of a side answer a request."""


class Brought(NamedTuple):
    """What flags say of a model that a user brings, as `benchmarks.race.run.Race` has them."""

    preset: str | None = None
    spec: Path | None = None
    pair: Path | None = None
    phase: tuple[str, ...] = ()
    batch: tuple[str, ...] = ()
    target: float | None = None


def brought_workloads(given: Brought, others: bool, sides: Iterable[Side], ask: Ask) -> Sequence[Timed] | None:
    """Return the workloads of the model that a user brings; None where he brings none.

    Args:
        given: the flags.
        others: whether published workloads are named.
        sides: those that race.
        ask: starts a worker, and has it answer.

    Raises:
        UserError: flags exclude each other, a value is unknown, or a side cannot build the model.
    """
    own = {f"--{name}": getattr(given, name) is not None for name in ("preset", "spec", "pair")}
    needy = {"--phase": bool(given.phase), "--batch": bool(given.batch), "--target": given.target is not None}
    one_of({"--workload": others, **own})
    if not any(own.values()):
        for flag in (flag for flag, value in needy.items() if value):
            raise UserError(f"{flag}: given without a model; expected --preset, --spec or --pair with it")
        return None
    if given.pair is not None:
        for flag in (flag for flag in ("--batch", "--target") if needy[flag]):
            raise UserError(f"{flag}: given with --pair; expected none, for the pair's file says on what it runs")
        return pair_workloads(given.pair, choose_phases(given.phase, PAIR_PHASES, PAIR_PHASES), ask)
    name, spec = choose_model(given.preset, given.spec)
    phases = choose_phases(given.phase, PHASES, USUAL)
    batches = choose_batches(given.batch, spec.training.batch_size)
    found = custom_workloads(name, spec, phases, batches, given.target)
    # JAX makes the reference, whoever races
    twins = [name for name in ("jax", "torch") if name == "jax" or SIDES[name] in sides]
    has_convolutions = convolves(shapes_of(spec, twins, ask))
    return [replace(workload, convolves=has_convolutions) for workload in found]


def one_of(given: dict[str, bool]) -> None:
    """Refuse flags that exclude each other, by whether they were given.

    Raises:
        UserError: names the first two.
    """
    flags = [flag for flag, value in given.items() if value]
    if len(flags) > 1:
        raise UserError(f"given both {flags[0]} and {flags[1]}; expected one of them")


def listed(values: Iterable[str]) -> tuple[str, ...]:
    """Return the items of a flag that was given once with commas, or again and again, each item once."""
    return tuple(dict.fromkeys(item.strip() for value in values for item in value.split(",")))


def choose_phases(values: Iterable[str], valid: Iterable[str], usual: tuple[str, ...]) -> tuple[str, ...]:
    """Return the phases that are named, or the usual ones.

    Raises:
        UserError: a phase is unknown; the nearest is given.
    """
    names = listed(values)
    for name in names:
        if name not in valid:
            raise UserError(f'--phase: unknown phase "{name}"; {nearest(name, valid)}')
    return names or usual


def choose_batches(values: Iterable[str], usual: int) -> tuple[int, ...]:
    """Return the batch sizes that are named, or the usual one.

    Raises:
        UserError: one of them is no number of images.
    """
    names = listed(values)
    for name in names:
        if not (name.isdecimal() and 1 <= int(name) <= MAX_STEPS):
            raise UserError(f'--batch: given "{name}"; expected integers from 1 to {MAX_STEPS:,}, with commas between')
    return tuple(dict.fromkeys(int(name) for name in names)) or (usual,)


def choose_model(name: str | None, file: Path | None) -> tuple[str, Spec]:
    """Return the name and the spec of a preset, or of a file.

    Raises:
        SpecError: there is no such preset, the file holds no spec, or it is one for float64.
    """
    spec = load_spec(file) if file is not None else preset(name or "")
    precision = spec.training.precision
    if precision != "float32":
        raise SpecError(f"training.precision: given {precision}; expected float32, which all sides of a race have")
    return plain_name(file.stem if file is not None else name or ""), spec


def plain_name(text: str) -> str:
    """Return a name that can stand in a table and be a folder's.

    >>> plain_name("my model, 2nd")
    'my-model-2nd'
    """
    return re.sub(r"[^\w.+-]+", "-", text).strip("-.") or "model"


def custom_workloads(
    name: str, spec: Spec, phases: Iterable[str], batches: Iterable[int], target: float | None
) -> list[Workload]:
    """Return the workloads of a spec: each phase at each batch size.

    Args:
        name: of the model.
        spec: the model.
        phases: of `PHASES`.
        batches: images in a step.
        target: held-out loss at which a training to quality ends.

    Raises:
        UserError: a training to quality has no target, or no other phase has one.
        SpecError: a batch is too small for the model.
    """
    phases = tuple(phases)
    if "quality" in phases and target is None:
        raise UserError("--phase quality: given no --target; expected the held-out loss at which such a training ends")
    if target is not None and ("quality" not in phases or not math.isfinite(target)):
        raise UserError(f"--target: given {target:g}; expected a number, and only with --phase quality")
    return [_workload(name, phase, with_batch(spec, batch), target) for phase in phases for batch in batches]


def _workload(name: str, phase: Any, spec: Spec, target: float | None) -> Workload:
    batch, steps = spec.training.batch_size, MANY
    if phase == "train":
        size = 4 * math.prod(spec.input_shape) * batch
        steps = max(LEAST_STEPS, min(MOST_STEPS, IMAGES // batch, BYTES // size))
    if phase in ("train", "many", "quality"):
        images = round(QUALITY_IMAGES * (1 - QUALITY_SHARE)) if phase == "quality" else batch * steps
        check_batches(spec, images)
    models, goal = MANY if phase == "many" else 1, (target or 0.0) if phase == "quality" else 0.0
    return Workload(f"{name}-{phase}-{batch}", phase, spec, steps, models=models, target=goal)


def pair_workloads(file: Path, phases: Iterable[Any], ask: Ask) -> list[PairWorkload]:
    """Return the workloads of a pair, once its two sides have been compared.

    Raises:
        UserError: the file brings no pair, or its sides cannot be compared.
    """
    try:
        found = ask("pair-torch", {"do": "pair", "file": str(file)})
    except Refusal as error:
        raise UserError(str(error)) from None
    except WorkerError as error:
        raise UserError(f"{file}: {error}") from None
    apart, rows = "" if found["passed"] else found["sentence"], found["rows"]
    named = {phase: f"{plain_name(file.stem)}-{phase}-{rows}" for phase in phases}
    digest = sha256(file.read_bytes()).hexdigest()
    return [PairWorkload(name, phase, file, rows, apart, digest) for phase, name in named.items()]


def shapes_of(spec: Spec, sides: Iterable[str], ask: Ask) -> Shapes:
    """Return names and shapes of the model's tensors, once all of these twins can build it.

    Raises:
        UserError: one of them cannot; it says what is missing.
    """
    found: Shapes = {}
    for side in sides:
        try:
            answer = ask(side, {"do": "shapes", "side": side, "spec": spec_to_json(spec)})
        except Refusal as error:
            raise SpecError(f"cannot build this model: {error}") from None
        except WorkerError as error:
            raise UserError(f"ae_{side} cannot build this model: {error}") from None
        found = {name: tuple(shape) for name, shape in answer["shapes"].items()}
        check_size(found)
    return found


def convolves(shapes: Shapes) -> bool:
    """Say whether a model has convolutions: their kernels have four axes."""
    return any(len(shape) == 4 for shape in shapes.values())
