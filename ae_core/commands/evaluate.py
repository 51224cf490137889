"""The command that measures a model."""

import sys
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from ae_core.commands.inputs import Flat, open_model
from ae_core.data import DataOptions, load, split
from ae_core.files.output import check_file, write_json
from ae_core.metrics.evaluation import Evaluation, evaluate
from ae_core.spec import spec_to_json
from ae_core.system.environment import environment
from ae_core.training.engine import Engine

SCHEMA = "twin-autoencoders/evaluation/1"

_WIDTH = 120


@dataclass(frozen=True)
class Evaluate:
    """Measure a model on images: reconstruction, density, latent space, known factors; prints a table."""

    weights: Path
    """Weights file."""
    data: str
    """Images: a .npy, .npz, IDX or picture file, a folder of pictures, or the name of a data set."""
    data_options: Flat = field(default_factory=DataOptions)
    """How the images are brought to the spec's shape."""
    heldout: float | None = None
    """Take only the fraction that a training with this --heldout and --seed kept back; all images where absent."""
    seed: int = 0
    """Of that split, of draws, and of which images are taken where all would take too long."""
    json: Path | None = None
    """File to write the metrics to as well."""
    force: bool = False
    """Overwrite the file."""

    def run(self, engine: Engine) -> int:
        """Measure, print and write."""
        if self.json is not None:
            check_file(self.json, (".json",), self.force)
        spec, model = open_model(engine, self.weights)
        data = load(self.data, spec.input_shape, self.data_options)
        if self.heldout is not None:
            data = data.some(split(len(data.images), self.heldout, self.seed)[1])
        result = evaluate(model, spec, data, self.seed)
        _print(result, f"{self.weights} on {len(data.images):,} images of {data.name}")
        if self.json is not None:
            report = {
                "schema": SCHEMA,
                "engine": engine.name,
                "environment": environment() | engine.environment(),
                "spec": spec_to_json(spec),
                "data": {"name": data.name, "images": len(data.images), "heldout": self.heldout},
                "seed": self.seed,
                "metrics": {name: metric._asdict() for name, metric in result.metrics.items()},
                "missing": result.missing,
            }
            write_json(self.json, report)
            print(f"metrics: {self.json}")
        return 0


def _print(result: Evaluation, title: str) -> None:
    # in a pipe Rich would take 80 columns, and cut
    console = Console(file=sys.stdout, width=None if sys.stdout.isatty() else _WIDTH)
    table = Table(title=Text(title), title_justify="left", box=None, pad_edge=False, header_style="bold")
    table.add_column("metric", no_wrap=True)
    table.add_column("value", justify="right", no_wrap=True)
    table.add_column("worst to best", no_wrap=True)
    table.add_column("how", overflow="fold")
    for name, metric in result.metrics.items():
        table.add_row(name, f"{metric.value:.5g} {metric.unit}".rstrip(), metric.range, Text(metric.how))
    console.print(table)
    reasons: dict[str, list[str]] = {}
    for name, why in result.missing.items():
        reasons.setdefault(why, []).append(name)
    for why, names in reasons.items():
        console.print(Text(f"not measured: {', '.join(names)}: {why}"))
