"""The drift report: holds the twins to the gates on one spec, and names the layer that stands out first."""

import math
import os
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import jax
import numpy as np
import torch
import tyro
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from ae_core.commands.cli import load_engine
from ae_core.data import load
from ae_core.errors import DataError, UserError
from ae_core.figures.html import details, numbers, pairs, report_html, section
from ae_core.files.output import check_file, write_bytes, write_json
from ae_core.spec import Precision, Spec, spec_to_json
from ae_core.system.environment import environment
from ae_core.training.loop import check_batches
from parity_tests.cases import IMAGES, chosen_spec, images_of
from parity_tests.check import IDENTITY_LIMIT, Check, worst
from parity_tests.gates.drift import LayerDrift, check_network, checks_of, first_outlier, layer_drift, start_of
from parity_tests.gates.identity import check_forward, check_names, check_training
from parity_tests.oracle import without_oracle

SCHEMA = "twin-autoencoders/parity/1"
TWINS = {"jax": "JAX", "torch": "PyTorch"}
COLUMNS = ("median", "p99", "max")
"""Of a layer's errors, in units."""

Gate = Literal["identity", "layers", "network"]


@dataclass(frozen=True)
class Report:
    """Hold both twins to the gates on one spec: identity in float64, each layer to its derived bound, the whole net.

    Ends with a verdict; the exit status is 0 where every check passed, 1 where one failed.
    """

    preset: str | None = None
    """Name of a preset; foster-ae where neither preset, spec nor case is given."""
    spec: Path | None = None
    """JSON file with a spec."""
    case: str | None = None
    """Name of a row of the table in parity_tests/cases.py."""
    gate: tyro.conf.UseAppendAction[tuple[Gate, ...]] = ()
    """Only this gate; may be given more than once."""
    precision: Annotated[Precision, tyro.conf.arg(aliases=["--dtype"])] = "float32"
    """In which the layers are held to the bound."""
    device: Literal["cpu", "gpu"] = "cpu"
    """Where the twins run."""
    steps: int = 20
    """Steps of training after which both twins must still be the same in float64."""
    batch: int | None = None
    """Images a step; where absent those of the case, else 16."""
    seed: int = 0
    """Of weights, images, batch order and noise."""
    data: str | None = None
    """Images: cans, garments, digits, mnist, fashion-mnist, or a path; random ones where absent."""
    json: Path | None = None
    """JSON file for everything that was measured."""
    html: Path | None = None
    """HTML file for the report."""
    force: bool = False
    """Overwrite these files."""


def run_report(options: Report) -> int:
    """Measure, show, and return the exit status.

    Raises:
        UserError: the spec, the data, the device or an output file cannot be used; nothing has been measured.
    """
    started = time.perf_counter()
    spec, images = _inputs(options)
    gates = tuple(gate for gate in get_args(Gate) if not options.gate or gate in options.gate)
    console, unknown = Console(stderr=True, highlight=False, markup=False), without_oracle(spec)
    checks: list[Check] = []
    drifts: list[LayerDrift] = []
    for number, gate in enumerate(gates, 1):
        console.print(f"{number}/{len(gates)}  {_doing(gate, options, bool(unknown))} …")
        match gate:
            case "identity":
                checks += check_forward(spec, images, options.seed, IDENTITY_LIMIT, "float64")
                checks += check_training(spec, images, options.seed, tuple(sorted({1, options.steps})))
            case "layers":
                drifts = [] if unknown else layer_drift(start_of(spec, images, options.seed, options.precision))
                checks += checks_of(drifts, options.precision)
            case "network":
                checks += check_network(spec, images, options.seed)
    good = all(check.passed for check in checks)
    if unknown:
        sentence = no_oracle_sentence(unknown)
    else:
        sentence = outlier_sentence(drifts) if drifts else "No layer was looked at"
    result = verdict(checks) + (f" (of {' and '.join(gates)} alone)" if options.gate else "")
    report = {
        "schema": SCHEMA,
        "environment": environment() | {twin: load_engine(twin).environment() for twin in TWINS},
        "spec": spec_to_json(spec),
        "options": {name: getattr(options, name) for name in ("case", "precision", "device", "steps", "seed", "data")}
        | {"gates": list(gates), "batch": spec.training.batch_size},
        "checks": [{**check._asdict(), "passed": check.passed} for check in checks],
        "layers": [{**drift._asdict(), "passed": drift.passed} for drift in drifts],
        "outlier": sentence,
        "verdict": "pass" if good else "fail",
        "result": result,
        "seconds": time.perf_counter() - started,
    }
    if options.json is not None:
        write_json(options.json, report)
    if options.html is not None:
        write_bytes(options.html, render(report, checks, drifts).encode())
    shown = Console(highlight=False, markup=False)
    if drifts:
        shown.print(layer_table(drifts))
    shown.print(gate_table(checks))
    shown.print(sentence)
    shown.print(Text.assemble(("PASS  " if good else "FAIL  ", "bold green" if good else "bold red"), result))
    for path in (options.json, options.html):
        if path is not None:
            print(f"written: {path}")
    return 0 if good else 1


def _doing(gate: Gate, options: Report, no_oracle: bool) -> str:
    match gate:
        case "identity":
            return f"float64 identity: one pass, then {options.steps} steps of training"
        case "layers":
            return f"{options.precision}: each layer against the oracle"
        case "network":
            return f"the whole net against {'a twin in float64' if no_oracle else 'the oracle'}"


def _inputs(options: Report) -> tuple[Spec, np.ndarray]:
    spec = chosen_spec(options.preset, options.spec, options.case)
    batch = options.batch if options.batch is not None else spec.training.batch_size if options.case is not None else 16
    for name, number in (("steps", options.steps), ("batch", batch)):
        if number < 1:
            raise UserError(f"--{name}: given {number}; expected an integer of at least 1")
    if set(options.gate) == {"layers"} and (unknown := without_oracle(spec)):
        raise UserError(f"--gate layers: no oracle for {', '.join(unknown)}; expected identity or network")
    for path, suffix in ((options.json, ".json"), (options.html, ".html")):
        if path is not None:
            check_file(path, (suffix,), options.force)
    choose_device(options.device)
    spec = replace(spec, training=replace(spec.training, batch_size=batch))
    # two full batches and a shorter one: the training crosses epoch borders; of a case as many as its tests have
    count = 2 * batch + (batch + 1) // 2 if options.case is None or options.batch is not None else IMAGES
    if options.data is None:
        images = images_of(spec, options.seed, count)
    else:
        images = load(options.data, spec.input_shape).images
        if len(images) < batch:
            raise DataError(f"{options.data}: has {len(images)} images; expected at least {batch}, one batch")
        images = images[:count]
    check_batches(spec, len(images))
    check_names(spec)
    return spec, images


def choose_device(device: str) -> None:
    """Let both twins run on that device alone.

    Raises:
        UserError: one of them sees none.
    """
    if device == "cpu":
        # before either framework looks for one; afterwards this changes nothing
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
        jax.config.update("jax_platforms", "cpu")
        return
    blind = [name for name, sees in (("JAX", _jax_sees()), ("PyTorch", torch.cuda.is_available())) if not sees]
    if blind:
        raise UserError(
            f"--device gpu: {' and '.join(blind)} see{'s' if len(blind) == 1 else ''} none here; expected cpu"
        )


def _jax_sees() -> bool:
    return any(device.platform == "gpu" for device in jax.devices())


def no_oracle_sentence(kinds: tuple[str, ...]) -> str:
    """Say what is left out where the oracle does not know a model.

    >>> no_oracle_sentence(("my-unet",))
    'No oracle for my-unet: identity and float64 distance only'
    """
    return f"No oracle for {', '.join(kinds)}: identity and float64 distance only"


def outlier_sentence(drifts: list[LayerDrift]) -> str:
    """Name the first layer that stands out, or say that none does."""
    first = first_outlier(drifts)
    if first is None:
        top = max(drifts, key=lambda drift: drift.max)
        return f"No layer stands out: at most {_units(top.max)} units, limit {top.limit:g} ({_place(top)})"
    return f"First layer that stands out: {_place(first)}, {_units(first.max)} units off, limit {first.limit:g}"


def _place(drift: LayerDrift) -> str:
    return f"{drift.layer}, {TWINS[drift.twin]}, {drift.part}"


def verdict(checks: list[Check]) -> str:
    """Return the result in one sentence; a failure names the check that is furthest off."""
    failed = [check for check in checks if not check.passed]
    if failed:
        many = f"{len(failed):,} of {len(checks):,} checks failed"
        return f"The twins are not the same model: {many}, furthest {worst(failed)}"
    return f"The twins are the same model: all {len(checks):,} checks passed"


def gate_table(checks: list[Check]) -> Table:
    """Return every kind of check as a row: how many, the worst, and where it is."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0), title="gates")
    for column in ("check", "compared", "worst", "limit"):
        table.add_column(column, justify="left" if column == "check" else "right", no_wrap=True)
    table.add_column("worst at", overflow="fold")
    for (name, group, top), cells in zip(_groups(checks), _gate_cells(checks), strict=True):
        good = all(check.passed for check in group)
        table.add_row(name, *cells, Text(top.place), style=None if good else "bold red")
    return table


def _gate_cells(checks: list[Check]) -> list[list[str]]:
    return [[f"{len(group):,}", f"{top.worst:.2g}", f"{top.limit:g}"] for _, group, top in _groups(checks)]


def _groups(checks: list[Check]) -> list[tuple[str, list[Check], Check]]:
    names = dict.fromkeys(check.name for check in checks)
    groups = {name: [check for check in checks if check.name == name] for name in names}
    return [(name, group, worst(group)) for name, group in groups.items()]


def layer_rows(drifts: list[LayerDrift]) -> list[tuple[str, str, list[str], bool]]:
    """Return layer, direction, three numbers for each twin, and whether all is in order.

    Backward is whichever of a layer's gradients is furthest off.
    """
    rows = []
    for layer in dict.fromkeys(drift.layer for drift in drifts):
        for direction in ("forward", "backward"):
            cells, good = [], True
            for twin in TWINS:
                own = [d for d in drifts if d.layer == layer and d.twin == twin]
                found = [d for d in own if (d.part == "forward") == (direction == "forward")]
                top = max(found, key=lambda d: d.max, default=None)
                cells += [_units(getattr(top, column)) if top else "" for column in COLUMNS]
                good &= top is None or top.passed
            if any(cells):  # of a layer on images nobody takes a gradient
                rows.append((layer, direction, cells, good))
    return rows


def _units(value: float) -> str:
    if not math.isfinite(value):
        return "inf"
    return f"{value:.2f}" if value < 100 else f"{value:.0f}" if value < 1e4 else f"{value:.0e}"


def layer_table(drifts: list[LayerDrift]) -> Table:
    """Return the layers as a table for a terminal of 80 columns or more."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0), title="error of each layer, in units")
    table.add_column("layer", overflow="fold")
    table.add_column("", style="dim")
    for name in TWINS.values():
        for column in COLUMNS:
            # the name of a twin stands over its first column
            table.add_column(f"{name if column == COLUMNS[0] else ''}\n{column}", justify="right", no_wrap=True)
    last = ""
    for layer, direction, cells, good in layer_rows(drifts):
        table.add_row("" if layer == last else layer, direction, *cells, style=None if good else "bold red")
        last = layer
    return table


def render(report: dict[str, Any], checks: list[Check], drifts: list[LayerDrift]) -> str:
    """Return the report as one HTML page."""
    gates = [
        (f"{name}: {top.place}", cells, all(check.passed for check in group))
        for (name, group, top), cells in zip(_groups(checks), _gate_cells(checks), strict=True)
    ]
    layers = [(f"{layer} {direction}", cells, good) for layer, direction, cells, good in layer_rows(drifts)]
    labels = [f"{name} {column}" for name in TWINS.values() for column in COLUMNS]
    units = (
        "Errors against a float64 oracle in units of √K·u·scale, the derived rounding error of each number. "
        "Backward is whichever of a layer's gradients is furthest off."
    )
    sections = [
        section(
            "Gates",
            numbers("parity", report["outlier"], "Check, and where it is worst", ["Compared", "Worst", "Limit"], gates),
        ),
        *([section("Layers", numbers("parity layers", units, "Layer", labels, layers))] if layers else []),
        section("Options", pairs(report["options"])),
        section("Model", details("Spec", report["spec"])),
        section("Environment", pairs(report["environment"])),
    ]
    lead = "One model, written in JAX and in PyTorch, held to a third one in NumPy."
    return report_html("Parity of the twins", lead, report["verdict"] == "pass", report["result"], sections, SCHEMA)
