"""What the commands share: opening a weights file, reading codes, writing arrays and pictures."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from jaxtyping import Float, Float32, Float64, Shaped

from ae_core.errors import DataError
from ae_core.figures.pictures import write_png
from ae_core.files.output import write_array
from ae_core.files.weights import check_tensors, load_weights
from ae_core.spec import Spec
from ae_core.training.engine import Engine, Inference


def open_model(engine: Engine, path: Path) -> tuple[Spec, Inference]:
    """Return the spec and the model of a weights file.

    Raises:
        WeightsError: the file is damaged, or not a weights file.
    """
    spec, tensors = load_weights(path)
    check_tensors(tensors, engine.shapes(spec), str(path))
    return spec, engine.infer(spec, tensors)


def read_codes(path: Path, spec: Spec) -> Float[np.ndarray, "N L"]:
    """Return the codes of a .npy file, in float64.

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


def check_codes(z: Shaped[np.ndarray, "..."], spec: Spec, where: str) -> Float64[np.ndarray, "N L"]:
    """Return codes in float64.

    Raises:
        DataError: they do not fit the spec; the message says why.
    """
    latent = spec.bottleneck.latent
    if z.ndim != 2 or z.shape[1] != latent or len(z) == 0:
        raise DataError(f"{where}: given shape {z.shape}; expected [N, {latent}], N at least 1")
    if z.dtype.kind not in "fiu" or not np.isfinite(z).all():
        given = f"dtype {z.dtype}" if z.dtype.kind not in "fiu" else "NaN or infinity"
        raise DataError(f"{where}: given {given}; expected finite numbers")
    if not (np.abs(z) <= np.finfo(spec.training.precision).max).all():
        raise DataError(f"{where}: given numbers beyond {spec.training.precision}, the model's precision")
    return z.astype(np.float64)


def written(path: Path, what: str, array: Float32[np.ndarray, "N ..."]) -> int:
    """Write an array, or its images as a picture where the path ends so; say where, and return the exit status 0."""
    if path.suffix == ".png":
        write_png(path, array)
    else:
        write_array(path, array)
    print(f"{what} {list(array.shape)}: {path}")
    return 0


def check_between(flag: str, given: int, least: int, most: int, what: str = "") -> None:
    """Refuse a flag's number that is out of bounds.

    Raises:
        DataError: says which are right.
    """
    if not least <= given <= most:
        raise DataError(f"{flag}: given {given}{what and ' '}{what}; expected {least} to {most:,}")


@contextmanager
def as_data_error() -> Iterator[None]:
    """Say in one line what a library function found wrong with the user's numbers."""
    try:
        yield
    except ValueError as error:
        raise DataError(str(error)) from None
