"""The pictures of the main job, and how far apart the trained twins are; each part fails by itself."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from ae_core import atlas, latent
from ae_core.commands.cli import load_engine
from ae_core.commands.run import FILES, Split, colouring
from ae_core.figures import charts
from ae_core.figures import latent as latent_charts
from ae_core.figures.failures import attempt
from ae_core.files.weights import load_weights
from ae_core.latent.codes import VectorCodes
from ae_core.metrics import mse
from ae_core.spec import Spec
from benchmarks.main_job.table import TWINS

PICTURES = {
    "reconstructions.png": "Held-out images, both twins' reconstructions, and their difference",
    "loss.png": "Training loss at each step and held-out loss after each epoch",
    "latent.png": "Codes of the held-out images",
    "grid.png": "The latent space, decoded over the range of the held-out images' codes",
    "throughput.png": "Training throughput, images per second",
}
ATLAS = "atlas.html"
BESIDE = {ATLAS: "Atlas: the latent space after training, JAX twin, to point, walk and drag in"}
MAP_SIZE = 10
"""Images along each side of the map of the latent space."""

Report = dict[str, Any]


@dataclass(frozen=True)
class Trained:
    """A twin after its training; each part is worked out when it is first asked for, and may then fail."""

    twin: str
    spec: Spec
    folder: Path
    """Of its run."""
    images: Split
    run: Mapping[str, Any]
    """Its part of the report."""

    @cached_property
    def tensors(self) -> dict[str, np.ndarray]:
        """The weights that the run left."""
        return load_weights(self.folder / FILES[0]).tensors

    @cached_property
    def model(self) -> VectorCodes:
        """The model with these weights; its codes are vectors."""
        return VectorCodes(load_engine(self.twin).infer(self.spec, self.tensors), self.spec)

    @cached_property
    def codes(self) -> np.ndarray:
        """Codes of the held-out images, [N, L]."""
        return self.model.encode(self.images.heldout)

    @cached_property
    def reconstructions(self) -> np.ndarray:
        """The held-out images, encoded and decoded, [N, H, W, C]."""
        return self.model.decode(self.codes)

    @cached_property
    def map(self) -> latent_charts.GridMap:
        """Images over the range of the codes."""
        return latent_charts.decoded_map(self.model.decode, *latent.data_grid(self.codes, MAP_SIZE))

    @cached_property
    def curve(self) -> charts.Curve:
        """Losses of the training."""
        steps, losses = np.array(self.run["curve"]["steps"]), np.array(self.run["curve"]["losses"])
        heldout = np.array(self.run["heldout_losses"][1:])
        per_epoch = -(-len(self.images.train) // self.spec.training.batch_size)
        return charts.Curve(steps, losses, np.arange(1, len(heldout) + 1) * per_epoch, heldout)


def draw(folder: Path, spec: Spec, images: Split, report: Report, drawn: dict[str, bytes]) -> None:
    """Draw pictures and the atlas into ``drawn`` by name, and note in the report how far apart the trained twins are.

    That distance is chaos, not identity, and is not judged. What cannot be drawn or measured is in ``failed``.
    """
    twins = {n: Trained(t, spec, folder / t, images, report["training"][t]) for t, n in TWINS.items()}
    ours, theirs = twins.values()
    measures: dict[str, Callable[[], float]] = {
        "heldout_loss_difference": lambda: abs(ours.run["heldout_loss"] - theirs.run["heldout_loss"]),
        "reconstruction_rms_difference": lambda: mse(ours.reconstructions, theirs.reconstructions) ** 0.5,
    }
    pictures: dict[str, Callable[[], bytes]] = {
        "reconstructions.png": lambda: charts.to_png(_reconstructions(twins, images)),
        "loss.png": lambda: charts.to_png(charts.loss_curves({n: t.curve for n, t in twins.items()})),
        "latent.png": lambda: charts.to_png(
            charts.latent_scatter({n: t.codes for n, t in twins.items()}, *colouring(images))
        ),
        "grid.png": lambda: charts.to_png(latent_charts.grid_maps({n: t.map for n, t in twins.items()})),
        "throughput.png": lambda: charts.to_png(
            charts.throughput({n: t.run["images_per_second"] for n, t in twins.items()})
        ),
        ATLAS: lambda: _atlas(twins[TWINS["jax"]]),
    }
    report["after_training"] = {name: attempt(report, name, measure) for name, measure in measures.items()}
    for name, picture in pictures.items():
        data = attempt(report, name, picture)
        if data is not None:
            drawn[name] = data


def _reconstructions(twins: Mapping[str, Trained], images: Split) -> Figure:
    pictures = {name: twin.reconstructions for name, twin in twins.items()}
    ours, theirs = pictures.values()
    difference = " − ".join(pictures)
    rows = {"original": images.heldout, **pictures, difference: ours - theirs}
    shown = np.linspace(0, len(ours) - 1, min(10, len(ours))).astype(int)
    return charts.image_rows({name: row[shown] for name, row in rows.items()}, {difference})


def _atlas(twin: Trained) -> bytes:
    images = twin.images
    heldout = images.data.some(images.heldout_indices)
    content = atlas.make_content(twin.spec, twin.tensors, twin.model.model, heldout, len(images.heldout))
    return atlas.render(content, f"{TWINS[twin.twin]} after {twin.spec.training.epochs} epochs").encode()
