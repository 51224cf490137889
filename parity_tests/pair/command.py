"""The comparison of a pair as a command: a verdict, the traps, and the drift layer by layer."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from ae_core.errors import UserError
from ae_core.figures.html import numbers, pairs, report_html, section
from ae_core.files.output import check_file, write_bytes, write_json
from ae_core.system.environment import environment
from parity_tests.check import IDENTITY_LIMIT, Check, worst
from parity_tests.pair.compare import PairResult, run_pair
from parity_tests.pair.pair import load_pair

SCHEMA = "twin-autoencoders/pair/1"
_COLUMNS = ["float64, JAX to PyTorch", "JAX, float32 to float64", "PyTorch, float32 to float64"]


@dataclass(frozen=True)
class PairCommand:
    """Compare two models of someone else's: a JAX function and a PyTorch module that are meant to be the same.

    The file is Python and defines jax_apply(params, *inputs), jax_params, torch_module and inputs (a tuple of NumPy
    arrays); where it must, also torch_inputs (such as images with channels first) and names (PyTorch's name of a module
    → JAX's path). Exit status 0: the same model; 1: not the same; 2: the file cannot be used.
    """

    file: tyro.conf.Positional[Path]
    """Python file that defines the pair. It is run."""
    steps: int = 5
    """Steps of training after which both must still have the same parameters."""
    optimizer: Annotated[Literal["sgd", "momentum", "adam", "adamw"], tyro.conf.arg(metavar="NAME")] = "adam"
    """Of the training: sgd, momentum, adam or adamw."""
    seed: int = 0
    """Of noise on weights that are one number throughout, which would hide a swap."""
    json: Path | None = None
    """JSON file for everything that was measured."""
    html: Path | None = None
    """HTML file for the report."""
    force: bool = False
    """Overwrite these files."""


def run_pair_command(options: PairCommand) -> int:
    """Compare, show, and return the exit status.

    Raises:
        UserError: the file, or an output file, cannot be used.
    """
    if options.steps < 1:
        raise UserError(f"--steps: given {options.steps}; expected an integer of at least 1")
    for path, suffix in ((options.json, ".json"), (options.html, ".html")):
        if path is not None:
            check_file(path, (suffix,), options.force)
    console = Console(stderr=True, highlight=False, markup=False)
    result = run_pair(load_pair(options.file), options.steps, options.optimizer, options.seed, console.print)
    report = report_of(result, options)
    if options.json is not None:
        write_json(options.json, report)
    if options.html is not None:
        write_bytes(options.html, render(report, result).encode())
    shown = Console(highlight=False, markup=False)
    shown.print(_table(result))
    for line in notes(result):
        shown.print(line, soft_wrap=True)
    good = result.passed
    word = Text("PASS  " if good else "FAIL  ", "bold green" if good else "bold red")
    shown.print(Text.assemble(word, result.sentence), soft_wrap=True)
    for path in (options.json, options.html):
        if path is not None:
            print(f"written: {path}")
    return 0 if good else 1


def report_of(result: PairResult, options: PairCommand) -> dict[str, Any]:
    """Return all that was measured as JSON."""
    return {
        "schema": SCHEMA,
        "environment": environment(),
        "options": {"file": str(options.file), **{n: getattr(options, n) for n in ("steps", "optimizer", "seed")}},
        "verdict": "pass" if result.passed else "fail",
        "sentence": result.sentence,
        "outlier": result.outlier,
        "findings": [finding._asdict() for finding in result.findings],
        "mended": result.mended,
        "layers": [{name: _finite(value) for name, value in layer._asdict().items()} for layer in result.layers],
        "checks": [
            {**check._asdict(), "worst": _finite(check.worst), "passed": check.passed} for check in result.checks
        ],
        "unused": result.unused,
        "own": result.own,
        "unnamed": result.unnamed,
        "still": result.still,
        "tried": result.tried,
        "seconds": result.seconds,
    }


def _finite(value: Any) -> Any:
    """JSON has no infinity."""
    return None if isinstance(value, float) and not math.isfinite(value) else value


def notes(result: PairResult) -> list[str]:
    """Return what there is to say besides numbers, a line each."""
    lines = [f"Looks like a trap: {finding}" for finding in result.findings]
    if result.findings:
        after = "everything agrees" if result.mended else "something still differs"
        lines.append(f"With that mended {after} ({result.tried} mends tried)")
    elif not result.passed:
        lines.append(f"Fits no row of the trap table ({result.tried} mends tried)")
    if result.unused:
        lines.append(f"Arrays of JAX that no tensor of PyTorch takes: {', '.join(result.unused)}")
    if result.own:
        lines.append(f"Buffers of PyTorch that JAX has nothing of, left as they are: {', '.join(result.own)}")
    if result.unnamed:
        lines.append(f"Outputs of PyTorch's modules without a partner in JAX: {', '.join(result.unnamed)}")
    if result.still:
        held = ", ".join(result.still)
        lines.append(
            f"Gradients that are 0 but for rounding, so that the training leaves the parameter as it is: {held}"
        )
    return lines


def _rows(result: PairResult) -> list[tuple[str, list[str], bool]]:
    return [
        (layer.name, [f"{v:.1e}" for v in (layer.difference, layer.jax_rounding, layer.torch_rounding)], layer.passed)
        for layer in result.layers
    ]


def _groups(result: PairResult) -> list[tuple[str, list[Check]]]:
    names = dict.fromkeys(check.name for check in result.checks)
    return [(name, [check for check in result.checks if check.name == name]) for name in names]


def _table(result: PairResult) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0), title="differences, norm over norm")
    table.add_column("layer", overflow="fold")
    for column in ("JAX to\nPyTorch", "JAX\nrounding", "PyTorch\nrounding"):
        table.add_column(column, justify="right", no_wrap=True)
    for name, cells, good in _rows(result):
        table.add_row(name, *cells, style=None if good else "bold red")
    for name, group in _groups(result):
        if name not in ("intermediate", "output"):
            top = worst(group)
            style = None if all(check.passed for check in group) else "bold red"
            table.add_row(f"{name}: {len(group):,}, worst at {top.place}", f"{top.worst:.1e}", style=style)
    return table


def render(report: dict[str, Any], result: PairResult) -> str:
    """Return the report as one HTML page."""
    note = (
        f"Differences, norm over norm. In float64 both sides agree within {IDENTITY_LIMIT:g}, or are not the same "
        "function. The other columns show each side's own rounding: float32 beside its own float64 run."
    )
    gates = [
        (
            f"{name}: {worst(group).place}",
            [f"{len(group):,}", f"{worst(group).worst:.2g}", f"{worst(group).limit:g}"],
            all(check.passed for check in group),
        )
        for name, group in _groups(result)
    ]
    said = {f"{i}": line for i, line in enumerate(notes(result), start=1)}
    sections = [
        section("What it looks like" if result.findings else "Notes", pairs(said)),
        section("Layers", numbers("parity", note, "Layer", _COLUMNS, _rows(result))),
        section("Checks", numbers("parity", "The worst of each kind.", "Check", ["Compared", "Worst", "Limit"], gates)),
        section("Options", pairs(report["options"])),
        section("Environment", pairs(report["environment"])),
    ]
    lead = "A JAX function and a PyTorch module that are meant to be the same, with the same weights."
    return report_html("A pair of models", lead, result.passed, result.sentence, sections, SCHEMA)
