"""The main job: prove the twins equal on a spec and its data, train both, and show what came of it side by side."""

import dataclasses
import json
import subprocess
import sys
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from ae_core.commands.cli import load_engine
from ae_core.commands.run import FILES, RunOptions, choose_spec, load_split, starting_weights
from ae_core.commands.train import Train
from ae_core.figures.failures import attempt, reason
from ae_core.files.output import check_folder, clear_folder, make_folder, write_bytes, write_json
from ae_core.files.weights import save_weights
from ae_core.spec import Spec, spec_to_json
from ae_core.system.environment import environment
from ae_core.training.loop import check_batches
from benchmarks.main_job.html import render
from benchmarks.main_job.pictures import ATLAS, BESIDE, PICTURES, Report, draw
from benchmarks.main_job.table import TWINS, summary
from parity_tests.check import Check, worst
from parity_tests.gates.identity import check_identity, check_names
from parity_tests.gates.latent import check_wardrobe

SCHEMA = "twin-autoencoders/report/1"
START = "initial.safetensors"
WARDROBE_IMAGES = 64
"""Images that maps, samples and metrics are compared on: float64 is slow."""


def _default_out() -> Path:
    return Path("runs") / datetime.now(UTC).strftime("twins-%Y%m%d-%H%M%S")


@dataclass(frozen=True)
class MainJob(RunOptions):
    """Check in float64 that the twins are the same, train both from the same weights on the same batches, compare."""

    out: Path = field(default_factory=_default_out)
    """Folder for report, figures and both runs; must be empty or new."""


def run_main_job(options: MainJob) -> int:
    """Do the main job and return its exit status: 0 when every check passed and both twins trained, else 1.

    The status is that of proof and training alone. A picture, the atlas or a measure that fails leaves it as it is:
    the report, its page and the terminal name it, with the reason. The report is written after the proof, after the
    training and once more with the pictures, so that what is known is kept whatever comes later, Ctrl-C included.

    Raises:
        UserError: the spec, the data or the folder cannot be used, or the twins' tensors differ, and nothing is left
            behind; or the report cannot be written.
        KeyboardInterrupt: of the proof nothing is left then, of all that comes later what was reported before.
    """
    console = Console(stderr=True, highlight=False, markup=False)
    check_folder(options.out, options.force)
    spec = choose_spec(options)
    images = load_split(options, spec)
    check_batches(spec, len(images.train))
    check_names(spec)
    tensors = starting_weights(load_engine("jax"), options, spec)
    make_folder(options.out)
    started = time.perf_counter()
    console.print(f"1/3  float64 identity of the twins on {len(images.train):,} images of {images.data.name} …")
    few = np.setdiff1d(np.arange(len(images.data.images)), images.heldout_indices)[:WARDROBE_IMAGES]
    try:
        checks = check_identity(spec, images.train, options.seed)
        checks += check_wardrobe(spec, images.data.some(few), options.seed)
    except BaseException:
        if not any(options.out.iterdir()):
            options.out.rmdir()
        raise
    stale = [f"{twin}/{name}" for twin in TWINS for name in FILES]
    clear_folder(options.out, ("report.json", "report.html", START, ATLAS, *PICTURES, *stale))
    for line in _by_name(checks):
        console.print(f"     {line}")
    report: Report = {
        "schema": SCHEMA,
        "environment": environment() | load_engine("jax").environment() | load_engine("torch").environment(),
        "spec": spec_to_json(spec),
        "data": images.description,
        "seed": options.seed,
        "parity": [
            {"name": f"{c.name}: {c.place}", "worst": c.worst, "limit": c.limit, "passed": c.passed} for c in checks
        ],
        "training": {},
        "verdict": "fail",
        "failed": [],
    }
    status = 1
    drawn: dict[str, bytes] = {}
    keep = partial(_keep, options.out, report, drawn, started)
    if all(check.passed for check in checks):
        report["message"] = "the training has not ended yet"
        keep()
        del report["message"]
        status = _train_both(options, spec, tensors, console, report)
        report["verdict"] = "fail" if status else "pass"
    keep()
    if status == 0:
        try:
            draw(options.out, spec, images, report, drawn)
        except KeyboardInterrupt as interrupt:
            report["failed"].append({"what": "figures and atlas", "why": reason(interrupt)})
            raise
        finally:
            keep()
    Console(markup=False).print(summary(report))
    print(f"report and figures: {options.out / 'report.html'}")
    return status


def _keep(out: Path, report: Report, drawn: dict[str, bytes], started: float) -> None:
    """Write what is known: the report, its page, and what is drawn. All but the report may fail.

    Raises:
        OutputError: the report cannot be written.
    """
    report["seconds"] = time.perf_counter() - started
    write_json(out / "report.json", report)
    known = len(report["failed"])
    for name, data in drawn.items():
        attempt(report, name, partial(write_bytes, out / name, data))
    lost = {failure["what"] for failure in report["failed"]}
    shown = {caption: drawn[name] for name, caption in PICTURES.items() if name in drawn}
    beside = {text: name for name, text in BESIDE.items() if name in drawn and name not in lost}
    attempt(report, "report.html", lambda: write_bytes(out / "report.html", render(report, shown, beside).encode()))
    if len(report["failed"]) > known:
        write_json(out / "report.json", report)


def _by_name(checks: list[Check]) -> list[str]:
    names = dict.fromkeys(check.name for check in checks)
    groups = {name: [check for check in checks if check.name == name] for name in names}
    return [f"{name}: {len(group)} compared, worst {worst(group).worst:.1e}" for name, group in groups.items()]


def _train_both(
    options: MainJob, spec: Spec, tensors: dict[str, np.ndarray], console: Console, report: dict[str, Any]
) -> int:
    """Train each twin in a process of its own, by its own command line; return the first exit status that is not 0."""
    start = options.out / START
    save_weights(start, spec, {name: tensor.astype(spec.training.precision) for name, tensor in tensors.items()})
    for number, twin in enumerate(TWINS, 2):
        console.print(f"{number}/3  {TWINS[twin]} trains in {spec.training.precision} …")
        command = [sys.executable, "-m", f"ae_{twin}", "train", *_flags(options, start, options.out / twin)]
        status, said = _run(command)
        if status:
            report["message"] = f"{TWINS[twin]} ended with exit status {status}: {' '.join(said.split())}"
            report["training"] = {}
            console.print(report["message"])
            return 130 if status == 130 else 1
        try:
            run = json.loads((options.out / twin / FILES[1]).read_text(encoding="utf-8"))
            report["training"][twin] = _outcome(run)
        except (OSError, ValueError, LookupError, TypeError) as error:
            report["message"] = f"{TWINS[twin]} left no report that can be read: {reason(error)}"
            report["training"] = {}
            console.print(report["message"])
            return 1
        failures = run.get("failed", [])
        report["failed"] += [{"what": f"{TWINS[twin]}: {f['what']}", "why": f["why"]} for f in failures]
    return 0


def _outcome(run: dict[str, Any]) -> dict[str, Any]:
    """Return what the report says of a twin's run; measures that failed there are None."""
    return {
        "losses": [epoch["train"]["loss"] for epoch in run["epochs"][1:]],
        "heldout_losses": [epoch["heldout"]["loss"] for epoch in run["epochs"]],
        "heldout_loss": run["heldout"]["loss"],
        "heldout_mse": run["heldout"].get("mse"),
        "pca_mse": run["heldout"].get("pca_mse"),
        "images_per_second": run["images_per_second"],
        "seconds": run["seconds"],
        "variant": run["variant"],
        "curve": run["curve"],
    }


def _run(command: list[str]) -> tuple[int, str]:
    """Run a command; return its exit status and output. At Ctrl-C it gets one too, and the time to answer it."""
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        while True:
            try:
                said, _ = child.communicate()
                return child.returncode, said
            except KeyboardInterrupt:
                continue


def _flags(options: MainJob, start: Path, out: Path) -> list[str]:
    """Return the flags of `train` that say what the options say."""
    chosen = dataclasses.replace(options, out=out, start=start)
    values = {f.name: getattr(chosen, f.name) for f in dataclasses.fields(Train)}
    nested = values.pop("data_options")
    values |= {f.name: getattr(nested, f.name) for f in dataclasses.fields(nested)}
    flags: list[str] = []
    for name, value in values.items():
        flag = "--" + name.replace("_", "-")
        if isinstance(value, bool):
            flags += [flag] if value else []
        elif value is not None:
            flags.append(f"{flag}={value}")
    return flags
