"""What the commands share: how images are given, opening a model, reading codes, writing arrays and pictures."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import numpy as np
import tyro
from jaxtyping import Float32, Float64

from ae_core.data import DataOptions
from ae_core.errors import DataError
from ae_core.figures.pictures import write_png
from ae_core.files.output import write_array
from ae_core.files.weights import check_tensors, load_weights
from ae_core.latent.codes import check_codes
from ae_core.spec import Spec
from ae_core.training.engine import Engine, Inference

Flat = Annotated[DataOptions, tyro.conf.arg(name="")]
"""Data options as flags without a prefix."""


@dataclass(frozen=True)
class WithWeights:
    """What a command takes that makes something with a model."""

    weights: Path
    """Weights file."""
    out: Path
    """Output file."""


@dataclass(frozen=True)
class WithImages(WithWeights):
    """What a command takes that makes something of images."""

    images: str
    """Images: a .npy, .npz, IDX or picture file, a folder of pictures, or the name of a data set."""
    data_options: Flat = field(default_factory=DataOptions)
    """How the images are brought to the spec's shape."""
    force: bool = False
    """Overwrite the output file."""


def open_model(engine: Engine, path: Path) -> tuple[Spec, Inference]:
    """Return the spec and the model of a weights file.

    Raises:
        WeightsError: the file is damaged, or not a weights file.
    """
    spec, tensors = load_weights(path)
    check_tensors(tensors, engine.shapes(spec), str(path))
    return spec, engine.infer(spec, tensors)


def read_codes(path: Path, spec: Spec) -> Float64[np.ndarray, "N ..."]:
    """Return the codes of a .npy file, [N, *latent shape], in float64.

    Raises:
        DataError: there are none that fit the spec; the message says why.
    """
    try:
        with path.open("rb") as file:  # NumPy leaves a file open that it fails to read
            z = np.load(file, allow_pickle=False)
    except FileNotFoundError:
        raise DataError(f"{path}: no such file; expected a .npy file of codes") from None
    except Exception as error:  # a damaged header can make NumPy raise nearly anything
        raise DataError(f"{path}: not a .npy array ({' '.join(str(error).split())})") from None
    if not isinstance(z, np.ndarray):
        raise DataError(f"{path}: given an .npz archive; expected a .npy file of codes")
    return check_codes(z, spec, str(path))


def written(path: Path, what: str, array: Float32[np.ndarray, "N ..."]) -> int:
    """Write an array, or its images as a picture where the path ends so; say where, and return the exit status 0."""
    if path.suffix == ".png":
        write_png(path, array)
    else:
        write_array(path, array)
    print(f"{what} {list(array.shape)}: {path}")
    return 0
