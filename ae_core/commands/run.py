"""A training run and the folder it leaves: weights, report and figures."""

import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from functools import cache, partial
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from ae_core.commands.inputs import Flat
from ae_core.data import DataOptions, Dataset, load, split
from ae_core.errors import SpecError, WeightsError
from ae_core.figures import charts as figures
from ae_core.figures.failures import attempt, reason
from ae_core.files.output import check_folder, clear_folder, make_folder, write_json
from ae_core.files.weights import check_tensors, load_weights, save_weights
from ae_core.latent.codes import VectorCodes
from ae_core.metrics import mse, pca_mse
from ae_core.spec import Precision, Spec, load_spec, spec_to_json
from ae_core.spec.changes import changed_training
from ae_core.spec.presets import preset
from ae_core.system.environment import environment
from ae_core.training.engine import Engine, Inference
from ae_core.training.initial import check_size, initial_weights
from ae_core.training.loop import History, check_batches, train
from ae_core.training.progress import TrainingProgress

SCHEMA = "twin-autoencoders/run/1"
CURVE_POINTS = 500
FILES = ("weights.safetensors", "report.json", "reconstructions.png", "loss.png", "latent.png")


@dataclass(frozen=True)
class RunOptions:
    """Train an autoencoder; leaves weights, report and figures in a folder."""

    out: Path
    """Folder for the run; must be empty or new."""
    preset: str | None = None
    """Name of a preset; foster-ae where neither preset nor spec is given."""
    spec: Path | None = None
    """JSON file with a spec."""
    data: str = "cans"
    """Images: cans, garments, digits, mnist, fashion-mnist, or a .npy, .npz, IDX or picture file or folder."""
    data_options: Flat = field(default_factory=DataOptions)
    """How the images are brought to the spec's shape."""
    heldout: float = 0.1
    """Fraction of the images that is kept back to judge by."""
    epochs: int | None = None
    """Passes over the training images; the spec's where absent."""
    batch_size: int | None = None
    """Images a step; the spec's where absent."""
    learning_rate: float | None = None
    """Peak learning rate; the spec's where absent."""
    precision: Precision | None = None
    """float32 or float64; the spec's where absent."""
    seed: int = 0
    """Of the split, initial weights, batch order and noise."""
    start: Path | None = None
    """Weights file to start from, in place of drawn weights."""
    force: bool = False
    """Overwrite a run that is there."""


def choose_spec(options: RunOptions) -> Spec:
    """Return the spec that the options name, with their overrides.

    Raises:
        SpecError: both a preset and a file are given, or the result is not a valid spec.
    """
    if options.preset is not None and options.spec is not None:
        raise SpecError("given both --preset and --spec; expected one of them")
    spec = load_spec(options.spec) if options.spec is not None else preset(options.preset or "foster-ae")
    return changed_training(spec, options.epochs, options.batch_size, options.learning_rate, options.precision)


@dataclass(frozen=True)
class Split:
    """A data set, cut in two."""

    data: Dataset
    train: np.ndarray
    heldout: np.ndarray
    heldout_indices: np.ndarray
    description: dict[str, Any]
    """For a report: name, shape, counts, options and the SHA-256 of the images."""


def load_split(options: RunOptions, spec: Spec) -> Split:
    """Load the images that the options name and keep some back.

    Raises:
        DataError: they cannot be used; the message says why.
    """
    data = load(options.data, spec.input_shape, options.data_options)
    train, heldout = split(len(data.images), options.heldout, options.seed)
    description = {
        "name": data.name,
        "shape": list(data.images.shape),
        "train": len(train),
        "heldout": len(heldout),
        "adapt": options.data_options.adapt,
        "channels": options.data_options.channels,
        "sha256": sha256(data.images.tobytes()).hexdigest(),
    }
    return Split(data, data.images[train], data.images[heldout], heldout, description)


def starting_weights(engine: Engine, options: RunOptions, spec: Spec) -> dict[str, np.ndarray]:
    """Return the weights that a run starts from: those of the file it names, else drawn from its seed.

    Raises:
        WeightsError: the file is damaged, or its model is another one than the spec's.
        SpecError: the model is too large.
    """
    shapes = check_size(engine.shapes(spec))
    if options.start is None:
        return initial_weights(shapes, spec, options.seed)
    given, tensors = load_weights(options.start)
    same = {
        "input_shape": spec.input_shape == given.input_shape,
        "backbone": spec.backbone.same_function(given.backbone),
        "bottleneck": spec.bottleneck.same_function(given.bottleneck),
    }
    for part in (name for name, fits in same.items() if not fits):
        theirs, ours = getattr(given, part), getattr(spec, part)
        raise WeightsError(f"{options.start}: its {part} is {theirs}; expected {ours}, as the spec to train has it")
    check_tensors(tensors, shapes, str(options.start))
    return tensors


def train_run(engine: Engine, options: RunOptions) -> History:
    """Train as the options say and leave the run's folder.

    Raises:
        UserError: the spec, the data, the weights to start from or the folder cannot be used; nothing is left behind.
    """
    check_folder(options.out, options.force)
    spec = choose_spec(options)
    start = starting_weights(engine, options, spec)
    images = load_split(options, spec)
    check_batches(spec, len(images.train))
    make_folder(options.out)
    kept = False

    def keep(tensors: dict[str, np.ndarray]) -> None:
        nonlocal kept
        if not kept:  # an earlier run stands until there is something to put in its place
            clear_folder(options.out, FILES)
        save_weights(options.out / FILES[0], spec, tensors)
        kept = True

    try:
        with TrainingProgress(engine.name, spec.training.epochs) as watcher:
            result = train(engine, spec, images.train, images.heldout, options.seed, watcher, keep, start)
    except BaseException:
        if not any(options.out.iterdir()):
            options.out.rmdir()
        raise
    for failure in _write_report(engine, options, spec, images, result):
        print(f"failed: {failure}", file=sys.stderr)
    return result


def _write_report(engine: Engine, options: RunOptions, spec: Spec, images: Split, result: History) -> list[str]:
    """Write the report at once, and again with measures and figures, each of which may fail.

    Returns what failed, a line each, as the report's ``failed`` has it.
    """
    curve = _thinned(result.step_losses)
    report: dict[str, Any] = {
        "schema": SCHEMA,
        "engine": engine.name,
        "variant": engine.variant,
        "status": result.status,
        "message": result.message,
        "environment": environment() | engine.environment(),
        "spec": spec_to_json(spec),
        "data": images.description,
        "seed": options.seed,
        "epochs": [asdict(epoch) for epoch in result.epochs],
        "best_epoch": result.best_epoch,
        "heldout": dict(result.epochs[result.best_epoch].heldout),
        "curve": {"steps": curve.steps.tolist(), "losses": curve.losses.tolist()},
        "images_per_second": result.images_per_second,
        "seconds": result.seconds,
        "failed": [],
    }
    write_json(options.out / "report.json", report)
    try:
        _measure_and_draw(engine, options, spec, images, result, curve, report)
    except KeyboardInterrupt as interrupt:
        report["failed"].append({"what": "measures and figures", "why": reason(interrupt)})
        raise
    finally:
        write_json(options.out / "report.json", report)
    return [f"{failure['what']}: {failure['why']}" for failure in report["failed"]]


def _measure_and_draw(
    engine: Engine,
    options: RunOptions,
    spec: Spec,
    images: Split,
    result: History,
    curve: figures.Curve,
    report: dict[str, Any],
) -> None:
    @cache
    def model() -> Inference:
        return engine.infer(spec, result.tensors)

    @cache
    def recon() -> np.ndarray:
        return model().reconstruct(images.heldout)

    report["heldout"]["mse"] = attempt(report, "mse", lambda: mse(images.heldout, recon()))
    report["heldout"]["pca_mse"] = attempt(
        report, "pca_mse", lambda: pca_mse(images.train, images.heldout, spec.latent_size)
    )

    def reconstructions() -> Figure:
        shown = np.linspace(0, len(images.heldout) - 1, min(10, len(images.heldout))).astype(int)
        rows = {"original": images.heldout[shown], "reconstruction": recon()[shown].astype(np.float32)}
        return figures.image_rows(rows)

    def losses() -> Figure:
        per_epoch = -(-len(images.train) // spec.training.batch_size)
        steps = np.array([min(epoch.epoch * per_epoch, len(result.step_losses)) for epoch in result.epochs[1:]])
        heldout = np.array([epoch.heldout["loss"] for epoch in result.epochs[1:]])
        return figures.loss_curves({engine.name: curve._replace(heldout_steps=steps, heldout_losses=heldout)})

    def codes() -> Figure:
        vectors = {engine.name: VectorCodes(model(), spec).encode(images.heldout)}
        return figures.latent_scatter(vectors, *colouring(images))

    drawings = {"reconstructions.png": reconstructions, "loss.png": losses, "latent.png": codes}
    for name, drawing in drawings.items():
        attempt(report, name, partial(_save, options.out / name, drawing))


def _save(path: Path, drawing: Callable[[], Figure]) -> None:
    figures.save_figure(path, drawing())


def colouring(images: Split) -> tuple[np.ndarray | None, str, bool, tuple[str, ...]]:
    """Return what to colour held-out codes by: labels, else the first factor.

    With its name, whether it is a class, and the names of the classes where they have any.
    """
    if images.data.labels is not None:
        return images.data.labels[images.heldout_indices], "label", True, images.data.label_names
    if images.data.factors is not None:
        return images.data.factors[images.heldout_indices, 0], images.data.factor_names[0], False, ()
    return None, "", False, ()


def _thinned(losses: list[float]) -> figures.Curve:
    """Average neighbouring steps until there are few enough to draw."""
    block = max(1, -(-len(losses) // CURVE_POINTS))
    blocks = [losses[i : i + block] for i in range(0, len(losses), block)]
    ends = np.array([min((i + 1) * block, len(losses)) for i in range(len(blocks))])
    return figures.Curve(ends, np.array([np.mean(b) for b in blocks]), np.array([]), np.array([]))
