"""The trajectory gate: how far the twins drift apart over a thousand steps, beside a control that has no second twin.

Both twins train on the same batches, noise and learning rates, through their own training loops. The control is the
PyTorch twin against itself, from a start of which every weight was moved by one unit in the last place: what rounding
alone does to this net. A net with kinks is chaotic in float32, since a rounding error decides on which side of a kink
an activation falls; there the control itself drifts by percents, and the curve is reported, not gated.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Float, Float64, Int64
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

import ae_torch
from ae_core.data import steps_per_epoch
from ae_core.figures.charts import PALETTE
from ae_core.files.weights import is_state
from ae_core.spec import Precision, Spec
from ae_core.training.engine import Tensors
from ae_core.training.initial import initial_weights
from ae_core.training.steps import make_steps
from parity_tests.check import Check, normwise
from parity_tests.gates.identity import with_precision
from parity_tests.twins import Stepper, jax_stepper, one_thread, torch_stepper

Images = Float[np.ndarray, "N H W C"]

FLOAT64_LIMIT = 1e-10
"""Normwise limit of the parameters' distance in float64, over 1,000 steps.

A rounding of 2⁻⁵³ enters at each step; 1,000 of either sign come to √1000·2⁻⁵³ = 3.5e-15. A net amplifies what entered
early: the controls of most presets grow up to two hundredfold. The product of the two is 7e-13; the limit leaves other
nets and data two orders more. A learning rate that is off by a millionth exceeds it within 40 steps. A net that leaves
the limit is judged by its control, as in float32: the residual preset in batches of 4 moves one ulp to 1e-8.
"""

CONTROL_FACTOR = 10.0
"""In float32, and past the limit of float64, the twins may be so many times as far apart as the control.

The control's error enters once, one ulp per weight; that of the twins enters anew at each step, in sums of K products
that are ordered differently, as 2·√K ulp at worst, of which an average over the batch and Adam's moments leaves a
part. For K of 10² to 10³ a factor of ten lies in the middle; a formula that differs by 1e-5 of an update exceeds it.
"""

CONTROL_FLOOR = 2.0**-24
"""The control counts as at least one rounding of float32, half a unit in the last place of 1: even equal numbers are
known no better."""

DECAY_ROUNDING = 2.0**-25
"""What PyTorch's AdamW loses of every parameter at each step in float32: it multiplies by 1 − learning rate × decay,
rounded to float32, which just below 1 is off by up to half of 2⁻²⁴. At an even learning rate the error has the same
sign at each step, so steps add up. The JAX twin takes the decay away as a term of its own."""

CHUNK = 64
"""Steps in one dispatch: no more than any trainer takes at once as long as they do not cross an epoch."""


class Divergence(NamedTuple):
    """Distances between trainings, ‖a − b‖ / max(‖a‖, ‖b‖) over all parameters, after so many steps each."""

    spec: Spec
    steps: Int64[np.ndarray, " M"]
    """After which steps the distance was taken."""
    twins: Float64[np.ndarray, " M"]
    """JAX against PyTorch."""
    control: Float64[np.ndarray, " M"] | None
    """PyTorch against PyTorch, whose start was moved by one ulp; None where it was not needed."""


def marks_up_to(steps: int) -> tuple[int, ...]:
    """Return 1, 2, 5, 10, … as far as ``steps``, and ``steps`` itself.

    >>> marks_up_to(40)
    (1, 2, 5, 10, 20, 40)
    """
    marks = {digit * 10**power for power in range(len(str(steps))) for digit in (1, 2, 5)}
    return (*sorted(mark for mark in marks if mark < steps), steps)


def trajectory(
    stepper: Callable[[Spec, Tensors, Images], Stepper],
    spec: Spec,
    tensors: Tensors,
    images: Images,
    seed: int,
    marks: tuple[int, ...],
) -> Float64[np.ndarray, "M P"]:
    """Train one twin from these weights and return all its parameters, flat, after so many steps each."""
    twin = stepper(spec, tensors, images)
    per_epoch = steps_per_epoch(len(images), spec.training.batch_size)
    rows, done = [], 0
    for mark in marks:
        while done < mark:
            epoch, first = divmod(done, per_epoch)
            number = min(CHUNK, mark - done, per_epoch - first)
            twin.advance(make_steps(spec, len(images), seed, epoch, first, number))
            done += number
        rows.append(_flat(twin.export()))
    return np.stack(rows)


def _flat(state: Tensors) -> Float64[np.ndarray, " P"]:
    # moments begin with their slot; state follows from parameters and data
    names = sorted(n for n in state if n.startswith(("encoder.", "bottleneck.", "decoder.")) and not is_state(n))
    return np.concatenate([state[name].astype(np.float64).ravel() for name in names])


def in_batches(spec: Spec, batch: int) -> tuple[Spec, int]:
    """Return the spec in batches of that size, and how many images fill 21 of them, the last by half."""
    return replace(spec, training=replace(spec.training, batch_size=batch)), 20 * batch + batch // 2


def start_of(spec: Spec, seed: int) -> dict[str, np.ndarray]:
    """Return the initial weights of a spec, rounded to its own precision."""
    tensors = initial_weights(ae_torch.build(spec).shapes, spec, seed)
    return {name: tensor.astype(spec.training.precision) for name, tensor in tensors.items()}


def moved_by_one_ulp(tensors: Tensors) -> dict[str, np.ndarray]:
    """Return the tensors, each number but 0 replaced by the next one towards infinity.

    Rounding makes no error of 0: twins that start from a bias of 0 have the same units exactly on the kink of their
    activations, on a black image for one, and a control that moved them off would follow another gradient at once.
    """
    moved = {name: np.nextafter(tensor, np.inf, dtype=tensor.dtype) for name, tensor in tensors.items()}
    return {name: np.where(tensor == 0, tensor, moved[name]) for name, tensor in tensors.items()}


def diverge(
    spec: Spec, images: Images, seed: int, steps: int = 1000, control: Literal["always", "where needed"] = "always"
) -> Divergence:
    """Train both twins at the spec's own precision, and the control: always, or where the limit of float64 is left."""
    start, marks = start_of(spec, seed), marks_up_to(steps)
    ours = trajectory(jax_stepper, spec, start, images, seed, marks)
    with one_thread():
        theirs = trajectory(torch_stepper, spec, start, images, seed, marks)
        twins = _distances(ours, theirs)
        if control == "where needed" and (twins <= FLOAT64_LIMIT).all():
            return Divergence(spec, np.array(marks), twins, None)
        moved = trajectory(torch_stepper, spec, moved_by_one_ulp(start), images, seed, marks)
    return Divergence(spec, np.array(marks), twins, _distances(moved, theirs))


def _distances(a: Float64[np.ndarray, "M P"], b: Float64[np.ndarray, "M P"]) -> Float64[np.ndarray, " M"]:
    return np.array([normwise(x, y) for x, y in zip(a, b, strict=True)])


def judge(divergence: Divergence) -> list[Check]:
    """Return the checks of a divergence, one for each mark; none for float32 with kinks, which is not gated.

    Raises:
        ValueError: a smooth net in float32 is judged by its control, and there is none.
    """
    spec, _, twins, control = divergence
    places = [f"step {step}" for step in divergence.steps]
    # a control that broke down excuses nothing
    sound = np.zeros(len(places)) if control is None else np.where(np.isfinite(control), control, 0.0)
    if spec.training.precision == "float64":
        limits = np.maximum(FLOAT64_LIMIT, CONTROL_FACTOR * sound)
    elif not spec.is_smooth:
        return []
    elif control is None:
        raise ValueError("trajectory: a float32 divergence without its control")
    else:
        decays = spec.training.optimizer.decay > 0
        limits = CONTROL_FACTOR * np.maximum(sound, CONTROL_FLOOR) + decays * DECAY_ROUNDING * divergence.steps
    rows = zip(places, twins.tolist(), limits.tolist(), strict=True)
    return [Check("trajectory", place, distance, limit) for place, distance, limit in rows]


def check_trajectory(spec: Spec, images: Images, seed: int, steps: int, precision: Precision) -> list[Check]:
    """Train both twins for so many steps and hold their distance to the limit at each mark on the way.

    In float64 the control is run only where the limit is left; see `judge`.
    """
    spec = with_precision(spec, precision)
    if precision == "float32" and not spec.is_smooth:
        return []
    return judge(diverge(spec, images, seed, steps, "where needed" if precision == "float64" else "always"))


def figure(divergences: Mapping[str, Divergence]) -> Figure:
    """Draw distances over steps, both axes logarithmic: twins as lines, controls dotted, in the colour of their net.

    A distance of exactly 0 has no place on a logarithmic axis and is left out.
    """
    drawing = Figure((8.0, 4.6), facecolor="white", layout=ConstrainedLayoutEngine(w_pad=0.12, h_pad=0.12))
    axes = drawing.add_subplot()
    for i, (name, divergence) in enumerate(divergences.items()):
        colour = PALETTE[i % len(PALETTE)]
        axes.plot(*_positive(divergence.steps, divergence.twins), "o-", c=colour, ms=4, label=f"{name}, twins")
        if divergence.control is not None:
            shown = _positive(divergence.steps, divergence.control)
            axes.plot(*shown, "s:", c=colour, ms=3.5, alpha=0.7, label=f"{name}, one ulp")
    axes.set(xscale="log", yscale="log")
    axes.set_xlabel("step", fontsize=12)
    axes.set_ylabel("distance of all parameters", fontsize=12)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color("#d9d9d9")
    axes.tick_params(which="both", labelsize=11, color="#d9d9d9", labelcolor="#555555")
    axes.grid(color="#eeeeee", lw=0.8)
    axes.set_axisbelow(True)
    if axes.get_lines():
        drawing.legend(loc="outside right upper", frameon=False, fontsize=11)
    return drawing


def _positive(
    steps: Int64[np.ndarray, " M"], values: Float64[np.ndarray, " M"]
) -> tuple[Int64[np.ndarray, " K"], Float64[np.ndarray, " K"]]:
    shown = np.isfinite(values) & (values > 0)
    return steps[shown], values[shown]
