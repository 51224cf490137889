"""The search for a trap: at the first layer that stands out, each thing that the other side may have meant is tried."""

import time
from collections.abc import Callable, Iterable, Mapping
from itertools import combinations
from typing import Any, NamedTuple

import numpy as np

from parity_tests.pair.calls import Around, Call, Change, Mend, both_changes
from parity_tests.pair.pair import Array
from parity_tests.pair.sides import TorchSide
from parity_tests.pair.traps import GRADIENT_TRAPS, STATE_TRAPS, TRAPS, mends_of, stopped_after

SECONDS = 20.0
"""How long mends are tried; a model so large that one pass takes a second has few tries."""


class Finding(NamedTuple):
    """A trap, where it lies, and what mends it; the mend has been tried."""

    trap: str
    places: tuple[str, ...]
    """The layers where it lies."""
    call: str
    """Which PyTorch function is concerned, and where it is called."""
    mend: str

    def __str__(self) -> str:
        return f"{self.trap}, at {', '.join(self.places)} ({self.call}): {self.mend}"


class Search:
    """Mends of PyTorch's side that were found so far.

    Args:
        side: in float64.
        difference: how far PyTorch's array of a name is from JAX's.
        shapes: which shapes PyTorch's array of a name may have.
        names: what is compared, in PyTorch's order, outputs last.
        limit: within which it agrees.
    """

    def __init__(
        self,
        side: TorchSide,
        difference: Callable[[str, Array], float],
        shapes: Callable[[str], list[tuple[int, ...]]],
        names: list[str],
        limit: float,
    ) -> None:
        self.side, self.difference, self.shapes = side, difference, shapes
        self.names, self.limit = names, limit
        self.changes: dict[int, Change] = {}
        self.findings: list[Finding] = []
        self.tried = 0
        self.ends = time.perf_counter() + SECONDS

    def values(self, changes: Mapping[int, Change]) -> dict[str, Array]:
        """Return intermediates and outputs by name."""
        outputs, taps, _, _ = self.side.forward(changes)
        return taps | named_outputs(outputs)

    def first(self) -> str | None:
        """Return the first name that stands out with the mends so far."""
        found = self.values(self.changes)
        return next((n for n in self.names if not self._agrees(n, found)), None)

    def _agrees(self, name: str, found: Mapping[str, Array]) -> bool:
        return name in found and self.difference(name, found[name]) <= self.limit

    def forward(self) -> None:
        """Find mends until no layer stands out, or none is found."""
        outlier = self.first()
        while outlier is not None:
            name = outlier
            calls, order, around = self._recorded(name)
            near, far = self._before(name, calls, order)
            cures = lambda changes, name=name: self._cures(name, changes)  # noqa: E731
            mends = (
                self._mends(near, around, cures)
                or self._mends(near, around, cures, 2)
                or self._mends(far, around, cures)
            )
            if not mends:
                return
            for call, mend in mends:
                self._add(call, mend, name)
            outlier = self.first()

    def _cures(self, name: str, changes: Mapping[int, Change]) -> bool:
        return self._agrees(name, self.values(changes))

    def _recorded(self, name: str) -> tuple[list[Call], list[str], Around]:
        outputs, taps, _, calls = self.side.forward(self.changes, keep=True)
        maps = [tap.shape[1:] for tap in taps.values() if tap.ndim > 2]
        maps += [tuple(x.shape[1:]) for call in calls for x in call.given.values() if getattr(x, "ndim", 0) > 2]
        weights = tuple(self.side.module.named_parameters())
        return calls, [*taps, *named_outputs(outputs)], Around(self.shapes(name), tuple(maps), weights)

    def _before(self, name: str, calls: list[Call], order: list[str]) -> tuple[list[Call], list[Call]]:
        """Return the calls between the last layer that agrees and the one that stands out, and those before."""
        found = self.values(self.changes)
        end = order.index(name) if name in order else len(order)
        good = [i for i, n in enumerate(order[:end]) if n in self.names and self._agrees(n, found)]
        start = good[-1] + 1 if good else 0
        before = [call for call in calls if call.done <= end]
        return [call for call in before if call.done >= start], [call for call in before if call.done < start]

    def _mends(
        self,
        calls: Iterable[Call],
        around: Around,
        cures: Callable[[dict[int, Change]], bool],
        together: int = 1,
        table: Any = TRAPS,
    ) -> list[tuple[Call, Mend]]:
        """Return a mend that cures, or so many at different calls; none where none is found in time."""
        known = {(finding.trap, finding.mend) for finding in self.findings}
        rows = [trap for trap, _, _ in table]
        options = [(call, mend) for call in calls for mend in mends_of(call, around, table)]
        # what was found before comes first, then the more common trap, wherever it lies
        options.sort(key=lambda option: ((option[1].trap, option[1].sentence) not in known, rows.index(option[1].trap)))
        places = sorted(combinations(range(len(options)), together), key=sum)
        for chosen in ([options[place] for place in group] for group in places):
            if time.perf_counter() > self.ends:
                return []
            self.tried += 1
            try:
                cured = cures(self._changed(chosen))
            except (RuntimeError, TypeError, ValueError, IndexError, KeyError):  # another shape: not what was meant
                continue
            if cured:
                return chosen
        return []

    def _changed(self, chosen: Iterable[tuple[Call, Mend]]) -> dict[int, Change]:
        changes = dict(self.changes)
        for call, mend in chosen:
            before = changes.get(call.number)
            changes[call.number] = mend.change if before is None else both_changes(before, mend.change)
        return changes

    def _add(self, call: Call, mend: Mend, place: str) -> None:
        self.changes = self._changed([(call, mend)])
        where = f"{call.function} in {call.module or 'the model itself'}"
        for i, old in enumerate(self.findings):
            if (old.trap, old.mend) == (mend.trap, mend.sentence):
                self.findings[i] = old._replace(places=(*old.places, place))
                return
        self.findings.append(Finding(mend.trap, (place,), where, mend.sentence))

    def state(self, failing: Callable[[Mapping[str, Array]], list[str]]) -> None:
        """Find mends of what is kept after a pass.

        Args:
            failing: names the buffers that are wrong.
        """
        while True:
            _, _, buffers, calls = self.side.forward(self.changes, keep=True)
            wrong = failing(buffers)
            if not wrong:
                return
            name = wrong[0]
            owner = name.rpartition(".")[0]
            own = [call for call in calls if call.module == owner]
            cures = lambda changes, name=name: name not in failing(self.side.forward(changes)[2])  # noqa: E731
            mends = self._mends(own, Around([], (), ()), cures, table=STATE_TRAPS)
            if not mends:
                return
            self._add(*mends[0], name)

    def gradients(self, failing: Callable[[Mapping[int, Change]], list[str]], stopped: bool) -> None:
        """Find a mend of gradients, where outputs agree.

        Args:
            failing: names the gradients that are wrong with some changes.
            stopped: whether JAX has a gradient of 0 where PyTorch has none.
        """
        wrong = failing(self.changes)
        _, _, _, calls = self.side.forward(self.changes, keep=True)
        around, cures = Around([], (), ()), lambda changes: not failing(changes)
        mends = self._mends(calls, around, cures, table=GRADIENT_TRAPS)
        if not mends and stopped:
            mends = self._mends(calls, around, cures, table=stopped_after())
        for call, mend in mends:
            self._add(call, mend, wrong[0])


def named_outputs(outputs: list[np.ndarray]) -> dict[str, np.ndarray]:
    """Return outputs by name: ``output``, or ``output[0]`` and so on where there are several."""
    if len(outputs) == 1:
        return {"output": outputs[0]}
    return {f"output[{i}]": output for i, output in enumerate(outputs)}
