"""The derived bound: each layer of each twin against the oracle, in units of what rounding may do; and whole nets."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from ae_core.spec import Precision, Spec
from parity_tests import oracle
from parity_tests.batches import first_batch
from parity_tests.capture import Captured, Start, capture_jax, capture_torch
from parity_tests.check import IDENTITY_LIMIT, Check, compare, normwise
from parity_tests.gates.identity import weights_of, with_precision
from parity_tests.twins import Pass, jax_pass, torch_pass

Images = Float[np.ndarray, "N H W C"]
Noise = Mapping[str, Float[np.ndarray, "B ..."]]
"""By site."""
Tensors = dict[str, np.ndarray]

UNITS = {"float32": 2.0, "float64": 4.0}
"""Limit of a layer, in units; `oracle` derives the 2. In float64 the oracle itself rounds as the twin does, which
doubles it."""
FACTOR = 3.0
"""How much further from the oracle one twin may be than the other, over a whole net.

Both sum the same numbers in orders of their own, so that either distance is a draw of the same rounding errors; the
orders differ in how many partial sums they run in parallel, and √8 ≈ 3 is what eight of them, a vector register,
gain over one.
"""
CAPTURE = {"jax": capture_jax, "torch": capture_torch}
PASSES = {"jax": jax_pass, "torch": torch_pass}


class LayerDrift(NamedTuple):
    """How far one result of one layer of one twin is from the oracle's, in units."""

    layer: str
    twin: str
    part: str
    """``forward``, ``input gradient``, or ``weight gradient`` and the like."""
    median: float
    p99: float
    max: float
    limit: float

    @property
    def passed(self) -> bool:
        """Whether no number of the result is further off than the limit."""
        return self.max <= self.limit


def start_of(spec: Spec, images: Images, seed: int, precision: Precision) -> Start:
    """Return weights and the first batch, rounded to float32: numbers that every precision holds exactly."""
    spec = with_precision(spec, precision)
    tensors = {name: tensor.astype(np.float32) for name, tensor in weights_of(spec, seed).items()}
    batch, noise = first_batch(spec, images, seed)
    return Start(spec, tensors, batch, {site: values.astype(np.float32) for site, values in noise.items()})


def layer_drift(start: Start) -> list[LayerDrift]:
    """Return the drift of all layers in forward order, each of them alone: the oracle gets the twin's own x and dy."""
    captured = {twin: capture(*start) for twin, capture in CAPTURE.items()}
    drifts = []
    for name, layer in oracle.layers_of(start.spec).items():
        parameters = oracle.parameters_of(name, start.tensors, start.images, start.noise)
        for twin, layers in captured.items():
            drifts += _drift_of(name, layer, parameters, twin, layers[name], start.spec.training.precision)
    return drifts


def _drift_of(
    name: str, layer: oracle.Layer, parameters: Tensors, twin: str, seen: Captured, precision: Precision
) -> list[LayerDrift]:
    info = np.finfo(precision)
    x, dy = seen.x.astype(np.float64), seen.dy.astype(np.float64)
    y, (dx, gradients) = layer.forward(parameters, x), layer.backward(parameters, x, dy)
    units = oracle.units_of(layer, parameters, x, dy, float(info.eps) / 2)
    parts = {"forward": (seen.y, y, units.output)}
    if seen.dx is not None:
        parts["input gradient"] = (seen.dx, dx, units.input_gradient)
    for key, gradient in gradients.items():
        parts[f"{key} gradient"] = (seen.gradients[key], gradient, units.gradients[key])
    drifts = []
    for part, (ours, right, unit) in parts.items():
        narrowed = ours.dtype != np.dtype(precision)
        ratios = np.array([np.inf]) if narrowed else _in_units(ours, right, unit + float(info.tiny))
        median, p99, top = (float(np.quantile(ratios, q, method="higher")) for q in (0.5, 0.99, 1.0))
        drifts.append(LayerDrift(name, twin, part, median, p99, top, UNITS[precision]))
    return drifts


def _in_units(ours: np.ndarray, right: np.ndarray, unit: np.ndarray) -> np.ndarray:
    """Return |ours − right|/unit; what is no number is infinitely far off, and so is another shape.

    The unit includes the smallest normal number, below which a machine may round to zero.
    """
    if ours.shape != right.shape:
        return np.array([np.inf])
    ratios = np.abs(ours.astype(np.float64) - right) / unit
    return np.where(np.isfinite(ratios), ratios, np.inf)


def check_layers(spec: Spec, images: Images, seed: int, precision: Precision) -> list[Check]:
    """Hold every layer of both twins to the derived bound; none where the oracle does not know the model."""
    if oracle.without_oracle(spec):
        return []
    return checks_of(layer_drift(start_of(spec, images, seed, precision)), precision)


def checks_of(drifts: list[LayerDrift], precision: Precision) -> list[Check]:
    """Return drifts as checks."""
    return [Check(f"{precision} layer", f"{d.twin} {d.layer} {d.part}", d.max, d.limit) for d in drifts]


def first_outlier(drifts: list[LayerDrift]) -> LayerDrift | None:
    """Return the first drift beyond its limit, in forward order; at one layer the furthest."""
    beyond = [drift for drift in drifts if not drift.passed]
    return max((drift for drift in beyond if drift.layer == beyond[0].layer), key=lambda d: d.max, default=None)


def check_network(spec: Spec, images: Images, seed: int) -> list[Check]:
    """Hold either twin's whole net to the oracle: in float64 to the limit of identity, in float32 beside the other's.

    See `check_formulas` and `check_distances`.
    """
    return check_formulas(spec, images, seed) + check_distances(spec, images, seed)


def check_formulas(spec: Spec, images: Images, seed: int) -> list[Check]:
    """Hold either twin's whole net in float64 to the oracle: every module's output, loss term, gradient and state.

    A formula that is wrong in both twins alike shows here, however well they agree: the limit is absolute. It is that
    of identity, for the oracle rounds as either twin does. None where the oracle does not know the model.
    """
    if oracle.without_oracle(spec):
        return []
    start = start_of(spec, images, seed, "float64")
    checks = []
    for twin, run in PASSES.items():
        own = run(*start)
        right = oracle.run(*start, sides=own.taps)
        for part in ("taps", "terms", "gradients", "state"):
            pair = getattr(own, part), getattr(right, part)
            if any(pair):
                found = compare("float64 network", *pair, IDENTITY_LIMIT, "float64")
                checks += [check._replace(place=f"{twin} {part} {check.place}") for check in found]
    return checks


def check_distances(spec: Spec, images: Images, seed: int) -> list[Check]:
    """Hold either twin's whole float32 net to three times the other's distance from the oracle.

    Or to what the roundings of its own layers add up to, where that is more: where all numbers go through a code of
    two, or a norm divides by next to nothing, one rounding error decides how far off everything after it is. See
    `_expected`.

    Three distances each: of all modules' outputs, of all gradients, and of the loss. Over many tensors the distance is
    the root mean square of their normwise distances, a tensor counting by its size: a small one is few draws of
    rounding errors, and its distance as random as they are.

    Where the oracle does not know the model, a twin in float64 stands in for it: the identity gate holds both twins
    there to the same numbers, so that either distance still is a draw of the same rounding errors. But it takes no
    sides at a kink, and gradients are compared only where there are none.
    """
    start = start_of(spec, images, seed, "float32")
    passes = {twin: run(*start) for twin, run in PASSES.items()}
    known = not oracle.without_oracle(spec)
    right: dict[str, oracle.Result | Pass]
    if known:
        # Where a pre-activation is within rounding of the kink of relu, either side is right, and the gradient jumps
        # from one to the other; so the oracle takes the twin's side. It moves no number across the kink by more than
        # that number's own distance from the twin's, which is measured as forward.
        right = {twin: oracle.run(*start, sides=own.taps) for twin, own in passes.items()}
    else:
        right = dict.fromkeys(passes, torch_pass(*start._replace(spec=with_precision(spec, "float64"))))
    # A float32 number is off by 2⁻²⁴ before anything is computed: below it, which twin is nearer is chance.
    floor = 2.0**-24
    # And the loss is one number, so one draw: only what exceeds the unit of its last sum can be compared.
    loss_floor = floor * float(np.sqrt(start.images.size))
    distances = {
        "forward": {twin: max(_distance(p.taps, right[twin].taps), floor) for twin, p in passes.items()},
        "gradient": {twin: max(_distance(p.gradients, right[twin].gradients), floor) for twin, p in passes.items()},
        "loss": {
            twin: max(normwise(p.terms["loss"], right[twin].terms["loss"]), loss_floor) for twin, p in passes.items()
        },
    }
    if not known and not spec.is_smooth:
        del distances["gradient"]
    checks = []
    for what, pair in distances.items():
        for twin, other in (("jax", "torch"), ("torch", "jax")):
            ratio = _ratio(pair[twin], pair[other])
            if known and what != "loss" and FACTOR < ratio < float("inf"):
                expected = _expected(start, passes[twin].taps, right[twin])[what]
                ratio = min(ratio, FACTOR * pair[twin] / expected)
            checks.append(Check("float32 network", f"{twin} {what}", ratio, FACTOR))
    return checks


def _expected(start: Start, sides: Tensors, right: oracle.Result | Pass) -> dict[str, float]:
    """Return how far from itself the oracle gets where each result of each layer is off by one unit, to either side.

    No layer of a twin may be off by more than two, as `check_layers` has it.
    """
    rng = np.random.default_rng(0)
    off = oracle.run(*start, sides=sides, errors=oracle.RandomErrors(2.0**-24, rng))
    return {
        "forward": _distance(_narrowed(off.taps), right.taps),
        "gradient": _distance(_narrowed(off.gradients), right.gradients),
    }


def _narrowed(tensors: Tensors) -> Tensors:
    return {name: tensor.astype(np.float32) for name, tensor in tensors.items()}


def _distance(ours: dict[str, np.ndarray], right: dict[str, np.ndarray]) -> float:
    """Return the root mean square of the tensors' normwise distances, weighted by their sizes."""
    if ours.keys() != right.keys() or any(tensor.dtype != np.float32 for tensor in ours.values()):
        return float("inf")
    sizes = [tensor.size for tensor in right.values()]
    squares = [normwise(ours[name], tensor) ** 2 for name, tensor in right.items()]
    return float(np.sqrt(np.average(squares, weights=sizes)))


def _ratio(distance: float, other: float) -> float:
    # infinitely far is no excuse for a twin that is infinitely far too
    return distance / other if np.isfinite(other) else float("inf")
