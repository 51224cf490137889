"""Both sides of a pair, set up with the same weights and compared question by question."""

from collections.abc import Mapping
from functools import cached_property
from typing import NamedTuple

import numpy as np

from parity_tests.check import IDENTITY_LIMIT, Check, normwise
from parity_tests.pair.align import turn_of
from parity_tests.pair.calls import Change
from parity_tests.pair.carry import Matches, match, moved
from parity_tests.pair.pair import Array, Pair, PairError
from parity_tests.pair.search import named_outputs
from parity_tests.pair.sides import Arrays, Backward, JaxSide, Optimizer, TorchSide
from parity_tests.pair.tree import parts_of, plain, take_apart

SMALL = 1e-3
"""A gradient's difference is measured against its own norm, but at least against this part of the norm of all gradients
together: where a true gradient is 0, as of a bias before a norm, only the rounding of far larger terms is left."""

ZERO = 1e-10
"""Of the norm of all gradients: a parameter whose gradient is below it on both sides has a true gradient of 0. Adam
would turn its rounding into full steps, so that it stays where it is in the short training."""

FACTOR = 3.0
"""How much further from its own float64 run one side may be than the other in float32: both are draws of the same
rounding errors, and the orders in which they sum gain at most √8 on one another; see `gates.drift.FACTOR`."""

FLOOR = 4 * 2.0**-24
"""A float32 distance counts as at least this: an exponential is right to a few units in the last place in either
framework, and below that, which side is nearer is chance."""

_NOTHING: Mapping[int, Change] = {}


class Layer(NamedTuple):
    """What one intermediate, or an output, shows."""

    name: str
    """PyTorch's."""
    difference: float
    """Of both sides in float64, norm over norm."""
    jax_rounding: float
    """Of JAX in float32 to itself in float64."""
    torch_rounding: float
    passed: bool
    """Whether the difference is within the limit of float64 agreement."""


class Both:
    """A pair with the weights of JAX on both sides."""

    def __init__(self, pair: Pair, seed: int) -> None:
        self.pair = pair
        tree = take_apart(pair.jax_params)
        self.arrays = moved(tree.arrays(), seed)
        self.matches: Matches = match(pair.torch_module, self.arrays, pair.names or {})
        sides = {
            precision: (
                JaxSide(pair, tree, self.arrays, self.matches, precision),
                TorchSide(pair, self.arrays, self.matches, precision),
            )
            for precision in ("float64", "float32")
        }
        (self.jax, self.torch), (self.jax32, self.torch32) = sides["float64"], sides["float32"]
        try:
            outputs, taps, self.state = self.jax.forward()
            self.outputs = named_outputs(outputs)
            if pair.returns_state and not self.state.keys() & self.arrays.keys():
                has = ", ".join(self.state) or "no arrays"
                raise PairError(f"returns_state: the state has {has}; expected paths of jax_params")
        except PairError:
            raise
        except Exception as error:  # whatever a stranger's function raises
            raise PairError(f"jax_apply: fails with {type(error).__name__}: {error}") from error
        try:
            theirs, self.torch_taps, self.buffers, _ = self.torch.forward(_NOTHING)
        except Exception as error:
            raise PairError(f"torch_module: fails with {type(error).__name__}: {error}") from error
        if len(theirs) != len(self.outputs):
            raise PairError(f"outputs: JAX returns {len(self.outputs)}, PyTorch {len(theirs)}; expected as many")
        self.torch_outputs = named_outputs(theirs)
        partners = self._partners(taps)
        self.wanted: Arrays = {**partners, **self.outputs}
        self.names = [*(name for name in self.torch_taps if name in partners), *self.outputs]
        self.unnamed = tuple(name for name in self.torch_taps if name not in partners)

    def _partners(self, taps: Arrays) -> Arrays:
        """Return JAX's intermediates by PyTorch's names."""
        if self.pair.jax_taps is not None:
            unknown = [name for name in taps if name not in self.torch_taps]
            if unknown:
                has = ", ".join(self.torch_taps)
                raise PairError(f'jax_taps: PyTorch has no module "{unknown[0]}" that returned; it has {has}')
            return dict(taps)
        known = dict(self.matches.modules())
        for name, given in (self.pair.names or {}).items():
            if isinstance(given, str):
                known[name] = ".".join(parts_of(given))
        jax_names = {plain(name): name for name in taps}
        found = {}
        for name in self.torch_taps:
            for candidate in _candidates(name, known):
                if candidate in jax_names:
                    found[name] = taps[jax_names[candidate]]
                    break
        return found

    def difference(self, name: str, theirs: Array) -> float:
        """Return how far PyTorch's array is from JAX's of that name; computed in another type, infinitely far."""
        ours = self.wanted[name]
        turn = turn_of(ours, theirs)
        if turn is None or ours.dtype != theirs.dtype:
            return float("inf")
        return normwise(turn(ours), theirs)

    def shapes(self, name: str) -> list[tuple[int, ...]]:
        """Return the shapes that PyTorch's array of a name may have."""
        ours = self.wanted[name]
        return [tuple(np.moveaxis(ours, -1, 1).shape)] * (ours.ndim > 2) + [tuple(ours.shape)]

    def values(self) -> Arrays:
        """Return PyTorch's intermediates and outputs."""
        return self.torch_taps | self.torch_outputs

    def layers(self) -> list[Layer]:
        """Compare every intermediate that both name, and the outputs."""
        outputs, taps, _ = self.jax32.forward()
        ours = {**self._partners(taps), **named_outputs(outputs)}
        theirs32, torch_taps, _, _ = self.torch32.forward(_NOTHING)
        narrow, values = torch_taps | named_outputs(theirs32), self.values()
        return [
            Layer(
                name,
                difference := self.difference(name, values[name]),
                normwise(ours[name].astype(np.float64), self.wanted[name]),
                normwise(narrow[name].astype(np.float64), values[name]),
                difference <= IDENTITY_LIMIT,
            )
            for name in self.names
        ]

    def forward_checks(self) -> list[Check]:
        """Hold intermediates, outputs and state to float64 agreement."""
        values = self.values()
        checks = [
            Check("output" if name in self.outputs else "intermediate", name, d, IDENTITY_LIMIT)
            for name in self.names
            for d in (self.difference(name, values[name]),)
        ]
        return checks + [
            Check("state", name, distance, IDENTITY_LIMIT) for name, distance in self._state(self.buffers).items()
        ]

    def _state(self, buffers: Mapping[str, Array]) -> dict[str, float]:
        """Compare what JAX returned as state with PyTorch's buffers."""
        kept = {
            name: one.take(self.state)
            for name, one in self.matches.tensors.items()
            if name in buffers and all(source in self.state for source in one.sources)
        }
        return {name: normwise(array, buffers[name]) for name, array in kept.items()}

    def wrong_state(self, buffers: Mapping[str, Array]) -> list[str]:
        """Name the buffers that are not JAX's."""
        return [name for name, distance in self._state(buffers).items() if not distance <= IDENTITY_LIMIT]

    @cached_property
    def _targets(self) -> tuple[list[Array], list[Array]]:
        """Fixed targets for either side's outputs."""
        rng = np.random.default_rng(0)
        ours, theirs = [], []
        for name, output in self.outputs.items():
            target = rng.standard_normal(output.shape)
            turn = turn_of(output, self.torch_outputs[name])
            ours.append(target)
            theirs.append(
                np.zeros(self.torch_outputs[name].shape) if turn is None else np.ascontiguousarray(turn(target))
            )
        return ours, theirs

    @cached_property
    def slopes(self) -> Backward:
        """JAX's gradients."""
        return self.jax.backward(self._targets[0])

    @cached_property
    def torch_slopes(self) -> Backward:
        """PyTorch's, as it is."""
        return self.torch.backward(self._targets[1], _NOTHING)

    def still(self, changes: Mapping[int, Change]) -> frozenset[str]:
        """Return the parameters of which both gradients are 0 but for rounding."""
        small = ZERO * _norm(self.slopes.parameters)
        theirs = self._torch_slopes(changes).parameters
        pairs = {name: (self.slopes.parameters[name], slope) for name, slope in theirs.items()}
        return frozenset(n for n, both in pairs.items() if max(float(np.linalg.norm(s)) for s in both) <= small)

    def _torch_slopes(self, changes: Mapping[int, Change]) -> Backward:
        if not changes and self.torch.factor == 1:
            return self.torch_slopes
        return self.torch.backward(self._targets[1], changes)

    def gradient_checks(self, changes: Mapping[int, Change]) -> list[Check]:
        """Hold the loss, and all gradients, to float64 agreement."""
        ours, theirs = self.slopes, self._torch_slopes(changes)
        least = SMALL * _norm(ours.parameters)
        checks = [Check("loss", "loss", normwise(np.array(ours.loss), np.array(theirs.loss)), IDENTITY_LIMIT)]
        for name, slope in theirs.parameters.items():
            checks.append(Check("gradient", name, _relative(ours.parameters[name], slope, least), IDENTITY_LIMIT))
        for i, (ours_in, theirs_in) in enumerate(zip(ours.inputs, theirs.inputs, strict=True)):
            turn = turn_of(ours_in, theirs_in)
            distance = float("inf") if turn is None else _relative(turn(ours_in), theirs_in, 0.0)
            checks.append(Check("gradient", f"inputs[{i}]", distance, IDENTITY_LIMIT))
        return checks

    def factor(self, changes: Mapping[int, Change]) -> float | None:
        """Return the one factor by which all of PyTorch's gradients, and its loss, are smaller, if there is one."""
        ours, theirs = self.slopes, self._torch_slopes(changes)
        still = self.still(changes)
        names = [name for name in theirs.parameters if name not in still]
        a = np.concatenate([ours.parameters[name].ravel() for name in names])
        b = np.concatenate([theirs.parameters[name].ravel() for name in names])
        factor = float(a @ b / max(b @ b, 1e-300))
        return factor if factor and normwise(a, factor * b) <= IDENTITY_LIMIT else None

    def training_checks(self, optimizer: Optimizer, steps: int, changes: Mapping[int, Change]) -> list[Check]:
        """Hold the parameters after a short training to float64 agreement, which each step may stretch a little."""
        still = self.still(changes)
        ours = self.jax.train(optimizer.jax, steps, self._targets[0], still)
        theirs = self.torch.train(optimizer.torch, steps, self._targets[1], still, changes)
        limit = IDENTITY_LIMIT * max(steps, 1)
        return [
            Check("training", name, normwise(ours[name], after), limit)
            for name, after in theirs.items()
            if name not in still
        ]

    def rounding_checks(self, layers: list[Layer]) -> list[Check]:
        """Hold either side's float32 outputs to three times the other's distance from its own float64 run."""
        return [
            Check("float32", f"{layer.name}, {side}", own / other, FACTOR)
            for layer in layers
            if layer.name in self.outputs
            for jax, torch in ((max(layer.jax_rounding, FLOOR), max(layer.torch_rounding, FLOOR)),)
            for side, own, other in (("JAX", jax, torch), ("PyTorch", torch, jax))
        ]

    def agrees(self, changes: Mapping[int, Change]) -> bool:
        """Whether outputs, intermediates, state and gradients agree with these changes."""
        outputs, taps, buffers, _ = self.torch.forward(changes)
        values = taps | named_outputs(outputs)
        same = all(name in values and self.difference(name, values[name]) <= IDENTITY_LIMIT for name in self.names)
        return same and not self.wrong_state(buffers) and all(check.passed for check in self.gradient_checks(changes))


def _candidates(name: str, known: Mapping[str, str]) -> list[str]:
    """Return what an intermediate may be called in JAX, plainly; what stands behind # or in brackets stays."""
    base = name.partition("#")[0].partition("[")[0]
    rest, parts = name[len(base) :], base.split(".")
    found = []
    for length in range(len(parts), 0, -1):
        prefix = ".".join(parts[:length])
        if prefix in known:
            found.append(plain(".".join([known[prefix], *parts[length:]])) + rest)
    return [*found, plain(base) + rest]


def _norm(arrays: Mapping[str, Array]) -> float:
    return float(np.sqrt(sum(float(np.vdot(a, a)) for a in arrays.values())))


def _relative(ours: Array, theirs: Array, least: float) -> float:
    """The difference over the larger norm, or over ``least`` where that is more."""
    if ours.shape != theirs.shape or not (np.isfinite(ours).all() and np.isfinite(theirs).all()):
        return float("inf")
    size = max(float(np.linalg.norm(ours)), float(np.linalg.norm(theirs)), least)
    return float(np.linalg.norm(ours - theirs)) / size if size else 0.0
