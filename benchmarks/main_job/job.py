"""The main job: prove the twins equal on a spec and its data, train both, and show what came of it side by side."""

import dataclasses
import json
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from ae_core import atlas, latent
from ae_core.commands.cli import load_engine
from ae_core.commands.menu import Train
from ae_core.commands.run import FILES, RunOptions, Split, choose_spec, colouring, load_split, starting_weights
from ae_core.figures import charts as figures
from ae_core.figures import latent as latent_figures
from ae_core.files.output import check_folder, clear_folder, make_folder, write_bytes, write_json
from ae_core.files.weights import load_weights, save_weights
from ae_core.metrics import mse
from ae_core.spec import Spec, spec_to_json
from ae_core.system.environment import environment
from ae_core.training.loop import check_batches
from benchmarks.main_job.html import render
from benchmarks.main_job.table import TWINS, summary
from parity_tests.check import Check, worst
from parity_tests.gates.identity import check_identity
from parity_tests.gates.latent import check_wardrobe

SCHEMA = "twin-autoencoders/report/1"
START = "initial.safetensors"
PICTURES = {
    "reconstructions.png": "Held-out images, both twins' reconstructions, and their difference",
    "loss.png": "Training loss at each step and held-out loss after each epoch",
    "latent.png": "Codes of the held-out images",
    "grid.png": "The latent space, decoded over the range of the held-out images' codes",
    "throughput.png": "Training throughput, images per second",
}
WARDROBE_IMAGES = 64
"""Images that maps, samples and metrics are compared on: float64 is slow."""
ATLAS = "atlas.html"
BESIDE = {ATLAS: "Atlas: the latent space after training, JAX twin, to point, walk and drag in"}
MAP_SIZE = 10
"""Images along each side of the map of the latent space."""


def _default_out() -> Path:
    return Path("runs") / datetime.now(UTC).strftime("twins-%Y%m%d-%H%M%S")


@dataclass(frozen=True)
class MainJob(RunOptions):
    """Check in float64 that the twins are the same, train both from the same weights on the same batches, compare."""

    out: Path = field(default_factory=_default_out)
    """Folder for report, figures and both runs; must be empty or new."""


def run_main_job(options: MainJob) -> int:
    """Do the main job and return its exit status: 0 when every check passed and both twins trained, else 1.

    Raises:
        UserError: the spec, the data or the folder cannot be used; nothing is left behind.
    """
    console = Console(stderr=True, highlight=False, markup=False)
    check_folder(options.out, options.force)
    spec = choose_spec(options)
    images = load_split(options, spec)
    check_batches(spec, len(images.train))
    tensors = starting_weights(load_engine("jax"), options, spec)
    make_folder(options.out)
    stale = [f"{twin}/{name}" for twin in TWINS for name in FILES]
    clear_folder(options.out, ("report.json", "report.html", START, ATLAS, *PICTURES, *stale))
    started = time.perf_counter()
    console.print(f"1/3  float64 identity of the twins on {len(images.train):,} images of {images.data.name} …")
    checks = check_identity(spec, images.train, options.seed)
    few = np.setdiff1d(np.arange(len(images.data.images)), images.heldout_indices)[:WARDROBE_IMAGES]
    checks += check_wardrobe(spec, images.data.some(few), options.seed)
    for line in _by_name(checks):
        console.print(f"     {line}")
    report: dict[str, Any] = {
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
    }
    status = 1
    drawn: dict[str, bytes] = {}
    if all(check.passed for check in checks):
        status = _train_both(options, spec, tensors, console, report)
        if status == 0:
            report["verdict"] = "pass"
            drawn = _compare(options, spec, images, report)
    report["seconds"] = time.perf_counter() - started
    write_json(options.out / "report.json", report)
    for name, data in drawn.items():
        write_bytes(options.out / name, data)
    shown = {caption: drawn[name] for name, caption in PICTURES.items() if name in drawn}
    page = render(report, shown, {text: name for name, text in BESIDE.items() if name in drawn})
    write_bytes(options.out / "report.html", page.encode())
    Console(markup=False).print(summary(report))
    print(f"report and figures: {options.out / 'report.html'}")
    return status


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
        run = json.loads((options.out / twin / FILES[1]).read_text(encoding="utf-8"))
        report["training"][twin] = {
            "losses": [epoch["train"]["loss"] for epoch in run["epochs"][1:]],
            "heldout_losses": [epoch["heldout"]["loss"] for epoch in run["epochs"]],
            "heldout_loss": run["heldout"]["loss"],
            "heldout_mse": run["heldout"]["mse"],
            "pca_mse": run["heldout"]["pca_mse"],
            "images_per_second": run["images_per_second"],
            "seconds": run["seconds"],
            "variant": run["variant"],
            "curve": run["curve"],
        }
    return 0


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


def _compare(options: MainJob, spec: Spec, images: Split, report: dict[str, Any]) -> dict[str, bytes]:
    """Draw the figures, and note how far apart the trained twins are; that is chaos, not identity, and not judged."""
    recon: dict[str, np.ndarray] = {}
    codes: dict[str, np.ndarray] = {}
    maps: dict[str, latent_figures.GridMap] = {}
    curves: dict[str, figures.Curve] = {}
    per_epoch = -(-len(images.train) // spec.training.batch_size)
    for twin, name in TWINS.items():
        model = load_engine(twin).infer(spec, load_weights(options.out / twin / FILES[0]).tensors)
        codes[name] = model.encode(images.heldout)
        recon[name] = model.decode(codes[name])
        maps[name] = latent_figures.decoded_map(model.decode, *latent.data_grid(codes[name], MAP_SIZE))
        run = report["training"][twin]
        heldout = np.array(run["heldout_losses"][1:])
        steps, losses = np.array(run["curve"]["steps"]), np.array(run["curve"]["losses"])
        curves[name] = figures.Curve(steps, losses, np.arange(1, len(heldout) + 1) * per_epoch, heldout)
    ours, theirs = recon.values()
    report["after_training"] = {
        "heldout_loss_difference": abs(
            report["training"]["jax"]["heldout_loss"] - report["training"]["torch"]["heldout_loss"]
        ),
        "reconstruction_rms_difference": mse(ours, theirs) ** 0.5,
    }
    shown = np.linspace(0, len(ours) - 1, min(10, len(ours))).astype(int)
    difference = " − ".join(recon)
    rows = {"original": images.heldout, **recon, difference: ours - theirs}
    rates = {name: report["training"][twin]["images_per_second"] for twin, name in TWINS.items()}
    draw: dict[str, Callable[[], Any]] = {
        "reconstructions.png": lambda: figures.image_rows({n: r[shown] for n, r in rows.items()}, {difference}),
        "loss.png": lambda: figures.loss_curves(curves),
        "latent.png": lambda: figures.latent_scatter(codes, *colouring(images)),
        "grid.png": lambda: latent_figures.grid_maps(maps),
        "throughput.png": lambda: figures.throughput(rates),
    }
    drawn = {name: figures.to_png(function()) for name, function in draw.items()}
    return drawn | {ATLAS: _atlas(options, spec, images)}


def _atlas(options: MainJob, spec: Spec, images: Split) -> bytes:
    tensors = load_weights(options.out / "jax" / FILES[0]).tensors
    heldout = images.data.some(images.heldout_indices)
    content = atlas.make_content(spec, tensors, load_engine("jax").infer(spec, tensors), heldout, len(images.heldout))
    return atlas.render(content, f"{TWINS['jax']} after {spec.training.epochs} epochs").encode()
