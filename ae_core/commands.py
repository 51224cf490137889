"""The commands of both twins, as dataclasses: their fields are the flags, their docstrings the help."""

import json
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import numpy as np
import tyro
from jaxtyping import Float, Float32

from ae_core.data import DataOptions, load
from ae_core.engine import Engine, Inference
from ae_core.errors import DataError, SpecError
from ae_core.init import check_size
from ae_core.output import check_file, write_array
from ae_core.pictures import write_png
from ae_core.presets import preset
from ae_core.rng import normal
from ae_core.run import Flat, RunOptions, train_run
from ae_core.spec import GaussianBottleneck, Spec, load_spec, spec_to_json
from ae_core.weights import check_tensors, checksum, load_weights

_ARRAY = (".npy",)
_IMAGES = (".npy", ".png")

MAX_COUNT = 10**7
"""The most images that one command makes."""


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
        spec, model = _open(engine, self.weights)
        z = model.encode(load(self.images, spec.input_shape, self.data_options).images)
        return _written(self.out, "codes", z.astype(np.float32))


@dataclass(frozen=True)
class Reconstruct(_WithImages):
    """Encode and decode images: write probabilities or means, [N, H, W, C], as .npy or a picture."""

    def run(self, engine: Engine) -> int:
        """Reconstruct and write."""
        check_file(self.out, _IMAGES, self.force)
        spec, model = _open(engine, self.weights)
        images = load(self.images, spec.input_shape, self.data_options).images
        return _written(self.out, "reconstructions", model.reconstruct(images).astype(np.float32))


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
        spec, model = _open(engine, self.weights)
        return _written(self.out, "images", model.decode(_read_codes(self.codes, spec)).astype(np.float32))


@dataclass(frozen=True)
class Sample(_WithWeights):
    """Make new images: from the prior of a variational autoencoder, or from given points of the latent space."""

    count: int = 16
    """Number of draws from the prior N(0, I)."""
    seed: int = 0
    """Of the draws."""
    points: Path | None = None
    """Codes to decode in place of draws, [N, latent], as .npy."""
    force: bool = False
    """Overwrite the output file."""

    def run(self, engine: Engine) -> int:
        """Sample and write."""
        check_file(self.out, _IMAGES, self.force)
        spec, model = _open(engine, self.weights)
        if self.points is not None:
            z = _read_codes(self.points, spec)
        elif not isinstance(spec.bottleneck, GaussianBottleneck):
            raise SpecError(f"{self.weights}: a plain bottleneck has no prior to draw from; give --points codes.npy")
        elif not 1 <= self.count <= MAX_COUNT:
            raise DataError(f"--count: given {self.count}; right is 1 to {MAX_COUNT:,}")
        else:
            z = normal((self.count, spec.bottleneck.latent), self.seed, "sample")
        return _written(self.out, "samples", model.decode(z).astype(np.float32))


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
            raise SpecError("info: right is exactly one of --weights, --preset and --spec")
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
    | Annotated[Info, tyro.conf.subcommand("info")]
)


def _open(engine: Engine, path: Path) -> tuple[Spec, Inference]:
    spec, tensors = load_weights(path)
    check_tensors(tensors, engine.shapes(spec), str(path))
    return spec, engine.infer(spec, tensors)


def _read_codes(path: Path, spec: Spec) -> Float[np.ndarray, "N L"]:
    try:
        with path.open("rb") as file:  # NumPy leaves a file open that it fails to read
            z = np.load(file, allow_pickle=False)
    except FileNotFoundError:
        raise DataError(f"{path}: no such file; right is a .npy file of codes") from None
    except Exception as error:  # a damaged header can make NumPy raise nearly anything
        raise DataError(f"{path}: not a .npy array ({' '.join(str(error).split())})") from None
    latent = spec.bottleneck.latent
    if not isinstance(z, np.ndarray) or z.ndim != 2 or z.shape[1] != latent or len(z) == 0:
        given = f"shape {z.shape}" if isinstance(z, np.ndarray) else "an .npz archive"
        raise DataError(f"{path}: given {given}; right is [N, {latent}], N at least 1")
    if z.dtype.kind not in "fiu" or not np.isfinite(z).all():
        given = f"dtype {z.dtype}" if z.dtype.kind not in "fiu" else "NaN or infinity"
        raise DataError(f"{path}: given {given}; right are finite numbers")
    if not (np.abs(z) <= np.finfo(spec.training.precision).max).all():
        raise DataError(f"{path}: given numbers beyond {spec.training.precision}, the model's precision")
    return z.astype(np.float64)


def _written(path: Path, what: str, array: Float32[np.ndarray, "N ..."]) -> int:
    if path.suffix == ".png":
        write_png(path, array)
    else:
        write_array(path, array)
    print(f"{what} {list(array.shape)}: {path}")
    return 0
