"""The commands of both twins, as dataclasses: their fields are the flags, their docstrings the help."""

import json
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import numpy as np
import tyro

from ae_core.commands.atlas import Atlas
from ae_core.commands.evaluate import Evaluate
from ae_core.commands.latent import Attribute, Grid, Neighbours, Outliers, Scatter, Traverse, Walk
from ae_core.commands.opening import open_model, read_codes, written
from ae_core.commands.run import Flat, RunOptions, train_run
from ae_core.commands.sample import Sample
from ae_core.data import DataOptions, load
from ae_core.errors import SpecError
from ae_core.files.output import check_file
from ae_core.files.weights import check_tensors, checksum, load_weights
from ae_core.spec import load_spec, spec_to_json
from ae_core.spec.presets import preset
from ae_core.training.engine import Engine
from ae_core.training.initial import check_size

_ARRAY = (".npy",)
_IMAGES = (".npy", ".png")


@dataclass(frozen=True)
class Train(RunOptions):
    """Train an autoencoder; leaves weights, report and figures in a folder."""

    def run(self, engine: Engine) -> int:
        """Train and say how it went."""
        result = train_run(engine, self)
        best = result.epochs[result.best_epoch].heldout["loss"]
        if result.status != "finished":
            print(f"training {result.status}: {result.message}; the weights of epoch {result.best_epoch} are kept")
        print(f"held-out loss {best:.6g} after epoch {result.best_epoch}, in {result.seconds:.1f} s")
        print(f"weights, report and figures: {self.out}")
        return {"finished": 0, "diverged": 1, "interrupted": 130}[result.status]


@dataclass(frozen=True)
class _WithWeights:
    weights: Path
    """Weights file."""
    out: Path
    """Output file."""


@dataclass(frozen=True)
class _WithImages(_WithWeights):
    images: str
    """Images: a .npy, .npz, IDX or picture file, a folder of pictures, or the name of a data set."""
    data_options: Flat = field(default_factory=DataOptions)
    """How the images are brought to the spec's shape."""
    force: bool = False
    """Overwrite the output file."""


@dataclass(frozen=True)
class Encode(_WithImages):
    """Put images away: write their codes, [N, latent], as .npy; of a Gaussian bottleneck, the means."""

    def run(self, engine: Engine) -> int:
        """Encode and write."""
        check_file(self.out, _ARRAY, self.force)
        spec, model = open_model(engine, self.weights)
        z = model.encode(load(self.images, spec.input_shape, self.data_options).images)
        return written(self.out, "codes", z.astype(np.float32))


@dataclass(frozen=True)
class Reconstruct(_WithImages):
    """Encode and decode images: write probabilities or means, [N, H, W, C], as .npy or a picture."""

    def run(self, engine: Engine) -> int:
        """Reconstruct and write."""
        check_file(self.out, _IMAGES, self.force)
        spec, model = open_model(engine, self.weights)
        images = load(self.images, spec.input_shape, self.data_options).images
        return written(self.out, "reconstructions", model.reconstruct(images).astype(np.float32))


@dataclass(frozen=True)
class Decode(_WithWeights):
    """Recreate images from codes: write probabilities or means, [N, H, W, C], as .npy or a picture."""

    codes: Path
    """Codes, [N, latent], as .npy."""
    force: bool = False
    """Overwrite the output file."""

    def run(self, engine: Engine) -> int:
        """Decode and write."""
        check_file(self.out, _IMAGES, self.force)
        spec, model = open_model(engine, self.weights)
        return written(self.out, "images", model.decode(read_codes(self.codes, spec)).astype(np.float32))


@dataclass(frozen=True)
class Info:
    """Show a spec and its parameters, and of a weights file the checksums."""

    weights: Path | None = None
    """Weights file."""
    preset: str | None = None
    """Name of a preset."""
    spec: Path | None = None
    """JSON file with a spec."""

    def run(self, engine: Engine) -> int:
        """Print spec and table."""
        if [self.weights, self.preset, self.spec].count(None) != 2:
            raise SpecError("info: expected exactly one of --weights, --preset and --spec")
        sums: dict[str, str] = {}
        if self.weights is not None:
            spec, tensors = load_weights(self.weights)
            check_tensors(tensors, engine.shapes(spec), str(self.weights))
            sums = {name: checksum(tensor) for name, tensor in tensors.items()}
        else:
            spec = load_spec(self.spec) if self.spec is not None else preset(self.preset or "")
        print(json.dumps(spec_to_json(spec), indent=2))
        shapes = check_size(engine.shapes(spec))
        width = max(len(name) for name in shapes)
        print(f"\n{'tensor':{width}}  {'shape':16}  {'numbers':>9}  {'sha256' if sums else ''}".rstrip())
        for name, shape in sorted(shapes.items()):
            size = math.prod(shape)
            print(f"{name:{width}}  {shape!s:16}  {size:>9,}  {sums.get(name, '')}".rstrip())
        running = ("running_mean", "running_var")
        trained = sum(math.prod(s) for name, s in shapes.items() if not name.endswith(running))
        print(f"\n{trained:,} parameters")
        return 0


Command = (
    Annotated[Train, tyro.conf.subcommand("train")]
    | Annotated[Encode, tyro.conf.subcommand("encode")]
    | Annotated[Decode, tyro.conf.subcommand("decode")]
    | Annotated[Reconstruct, tyro.conf.subcommand("reconstruct")]
    | Annotated[Sample, tyro.conf.subcommand("sample")]
    | Annotated[Evaluate, tyro.conf.subcommand("evaluate")]
    | Annotated[Scatter, tyro.conf.subcommand("scatter")]
    | Annotated[Grid, tyro.conf.subcommand("grid")]
    | Annotated[Walk, tyro.conf.subcommand("walk")]
    | Annotated[Traverse, tyro.conf.subcommand("traverse")]
    | Annotated[Attribute, tyro.conf.subcommand("attribute")]
    | Annotated[Neighbours, tyro.conf.subcommand("neighbours")]
    | Annotated[Outliers, tyro.conf.subcommand("outliers")]
    | Annotated[Atlas, tyro.conf.subcommand("atlas")]
    | Annotated[Info, tyro.conf.subcommand("info")]
)
