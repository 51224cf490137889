"""The mutation matrix: every fault, planted in one twin or in both, has to be noticed by at least one gate.

A fault in both twins at once is put before what knows neither: the oracle, or a comparison with the outside.
For each fault and gate the margin is the worst measured difference over its limit: above 1 the gate kills the fault.
A gate that raises instead of measuring kills too, with an infinite margin.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Float
from rich.console import Console
from rich.progress import track

import ae_jax
import ae_jax.engine
import ae_torch
import ae_torch.engine
from ae_core.errors import UserError, nearest
from ae_core.files.output import check_file, write_json
from ae_core.spec import Spec
from ae_core.system.environment import environment
from parity_tests.cases import CASES, images_of
from parity_tests.check import IDENTITY_LIMIT, Check, compare
from parity_tests.faults import FAULTS
from parity_tests.faults.planting import Fault, planted
from parity_tests.gates.drift import check_formulas
from parity_tests.gates.identity import check_evaluation, check_forward, check_resumed, check_training, with_precision
from parity_tests.gates.layers import SINGLE_LAYERS
from parity_tests.gates.truth import TRUTHS
from parity_tests.twins import one_thread

Images = Float[np.ndarray, "N H W C"]

SCHEMA = "twin-autoencoders/mutation/1"


def check_start(spec: Spec, images: Images, seed: int) -> list[Check]:
    """Compare the twins' own initial weights, which must be bit-equal: any difference is infinitely beyond 0."""
    spec = with_precision(spec, "float64")
    with jax.enable_x64(True):
        ours = ae_jax.to_tensors(ae_jax.build(spec).init(seed))
    checks = compare("start", ours, ae_torch.to_tensors(ae_torch.build(spec).init(seed)), IDENTITY_LIMIT, "float64")
    return [check._replace(worst=0.0 if check.worst == 0 else float("inf")) for check in checks]


GATES: Mapping[str, Callable[[Spec, Images, int], list[Check]]] = {
    "start": check_start,
    "forward": lambda spec, images, seed: check_forward(spec, images, seed, IDENTITY_LIMIT, "float64"),
    "evaluation": check_evaluation,
    "training": check_training,
    "resumed": check_resumed,
}
"""Every gate of a whole net by name: it returns its checks; a new one becomes a column of the matrix."""

COLUMNS = (
    *("layer", "start", "forward", "loss", "gradient", "state", "evaluation", "1 step", "20 steps", "resumed"),
    *("oracle", "truth"),
)
"""Columns of the matrix: what the gates compared. A single layer is held to the first, a net to those that follow; with
a fault in both twins a net is held to the oracle, and what is no net to a truth from outside."""


class Row(NamedTuple):
    """What became of one fault."""

    fault: str
    twin: str
    case: str
    margins: dict[str, float]
    """By column: worst difference over limit; infinite where something raised or differed in kind."""

    @property
    def killers(self) -> list[str]:
        """The columns that noticed, in order."""
        return [name for name, margin in self.margins.items() if not margin <= 1]


def run_gates(case: str, seed: int = 0, both: bool = False) -> dict[str, float]:
    """Return the margin of every column on one case, on a single layer or on a truth, as things are.

    Args:
        case: name of a row of `CASES`, `SINGLE_LAYERS` or `TRUTHS`.
        seed: of weights, batch order and noise.
        both: leave out comparisons between the twins, which cannot tell what is wrong in both.
    """
    margins: dict[str, float] = {}
    for gate, function in _gates(case, seed, both).items():
        try:
            with one_thread():
                checks = function()
        except Exception:  # a fault may break anything; a twin that breaks down has not passed
            margins[_column(gate, None)] = float("inf")
            continue
        for check in checks:
            column = _column(gate, check)
            margin = check.worst / check.limit if check.worst == check.worst else float("inf")
            margins[column] = max(margins.get(column, 0.0), margin)
    return {name: margins[name] for name in COLUMNS if name in margins}


def _gates(case: str, seed: int, both: bool) -> dict[str, Callable[[], list[Check]]]:
    if case in TRUTHS:
        return {"truth": TRUTHS[case]}
    if case in SINGLE_LAYERS:
        return {"layer": SINGLE_LAYERS[case]}
    spec = CASES[case]
    if both:
        return {"oracle": partial(check_formulas, spec, images_of(spec), seed)}
    return {name: partial(gate, spec, images_of(spec), seed) for name, gate in GATES.items()}


def _column(gate: str, check: Check | None) -> str:
    if gate == "training":
        return "1 step" if check is not None and check.name.endswith("after 1 step") else "20 steps"
    if gate == "forward" and check is not None:
        return check.name
    return gate


def run_fault(name: str, fault: Fault) -> Row:
    """Plant one fault and run every gate."""
    with planted(fault):
        return Row(name, fault.twin, fault.case, run_gates(fault.case, both=fault.twin == "both"))


def to_json(rows: list[Row]) -> list[dict[str, Any]]:
    """Return the matrix as JSON values; an infinite margin is null."""
    return [{**row._asdict(), "killers": row.killers} for row in rows]


def to_markdown(rows: list[Row]) -> str:
    """Return the matrix as a table: powers of ten of the margin where a gate killed, a dot where it passed."""
    lines = ["| fault | " + " | ".join(COLUMNS) + " |", "|---" * (len(COLUMNS) + 1) + "|"]
    for row in rows:
        cells = [_cell(row.margins.get(column)) for column in COLUMNS]
        lines.append(f"| {row.fault} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _cell(margin: float | None) -> str:
    if margin is None:
        return ""
    if margin <= 1:
        return "·"
    return f"10^{int(np.floor(np.log10(margin)))}" if np.isfinite(margin) else "∞"


@dataclass(frozen=True)
class Mutation:
    """Plant every fault in turn and print which comparison notices it, and by how much."""

    fault: tuple[str, ...] = ()
    """Names of faults, or how they begin: no others are planted."""
    json: Path | None = None
    """JSON file for the matrix."""
    force: bool = False
    """Overwrite this file."""


def run_mutation(options: Mutation) -> int:
    """Print the matrix and return the exit status: 1 if a fault survives, else 0.

    Raises:
        UserError: there is no such fault, or the JSON file cannot be written; nothing has been run.
    """
    if options.json is not None:
        check_file(options.json, (".json",), options.force)
    for wanted in options.fault:
        if not any(name.startswith(wanted) for name in FAULTS):
            raise UserError(f'--fault: there is none "{wanted}"; {nearest(wanted, FAULTS)}')
    chosen = [name for name in FAULTS if name.startswith(options.fault or "")]
    items = track(chosen, "planting faults", console=Console(stderr=True), transient=True)
    rows = [run_fault(name, FAULTS[name]) for name in items]
    print(to_markdown(rows))
    survivors = [row.fault for row in rows if not row.killers]
    print(f"{len(rows)} faults, {len(rows) - len(survivors)} noticed; survivors: {', '.join(survivors) or 'none'}")
    if options.json is not None:
        engines = {**ae_jax.engine.ENGINE.environment(), **ae_torch.engine.ENGINE.environment()}
        write_json(options.json, {"schema": SCHEMA, "environment": environment() | engines, "faults": to_json(rows)})
        print(f"matrix: {options.json}")
    return 1 if survivors else 0
