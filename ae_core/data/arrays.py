"""Images in NumPy's files: .npy holds them alone, .npz with labels and factors."""

from pathlib import Path

import numpy as np
from jaxtyping import Float32, Shaped

from ae_core.data.dataset import Dataset
from ae_core.data.validate import validate_images
from ae_core.errors import DataError

_IMAGES = ("images", "x", "X", "arr_0")
_LABELS = ("labels", "y")
_FACTORS = ("factors", "factor_names")


def read_npy(path: Path) -> Dataset:
    """Return the images of a .npy file, which is mapped, so that converting them is all that takes memory.

    Raises ``DataError`` that names the file when it is damaged, holds Python objects, or holds no valid images.
    """
    try:
        array = np.lib.format.open_memmap(path, mode="r")
    except Exception as error:  # a damaged header can make NumPy raise nearly anything
        raise DataError(f"{path}: not a .npy file of uint8 or float images: {_line(error)}") from error
    if path.stat().st_size != array.offset + array.nbytes:
        raise DataError(f"{path}: too long: {path.stat().st_size} bytes, its header says {array.offset + array.nbytes}")
    images = validate_images(array, str(path))
    return Dataset(path.name, _in_memory(images, array))


def read_npz(path: Path) -> Dataset:
    """Return images, labels and factors of a .npz file.

    Images are the array ``images``, ``x``, ``X`` or ``arr_0``, or the only one; ``labels`` or ``y`` are ``[N]``
    integers, ``factors`` ``[N, F]`` numbers, and ``factor_names`` F texts.

    Raises ``DataError`` that names the file, and the array, when something is damaged, missing or of another shape.
    """
    key, arrays = _arrays(path)
    images = validate_images(arrays[key], f"{path}: {key}")

    labels = next((arrays[key] for key in _LABELS if key in arrays), None)
    if labels is not None and (labels.shape != images.shape[:1] or labels.dtype.kind not in "iu"):
        raise DataError(f"{path}: labels are {labels.dtype} {labels.shape}, must be {len(images)} integers")
    factors = arrays.get("factors")
    names = tuple(map(str, arrays.get("factor_names", np.array([])).ravel()))
    if factors is not None:
        if factors.ndim != 2 or len(factors) != len(images) or factors.dtype.kind not in "fiu":
            given = f"{factors.dtype} {factors.shape}"
            raise DataError(f"{path}: factors are {given}, must be [{len(images)}, F] numbers")
        if factors.shape[1] == 0 or not np.isfinite(factors).all():
            raise DataError(f"{path}: factors are none, or not all finite; must be [{len(images)}, F] finite numbers")
        names = names or tuple(f"factor {i + 1}" for i in range(factors.shape[1]))
        if names and len(names) != factors.shape[1]:
            raise DataError(f"{path}: has {len(names)} factor_names for {factors.shape[1]} factors")
        factors = factors.astype(np.float64)
    return Dataset(path.name, images, None if labels is None else labels.astype(np.int64), factors, names)


def _arrays(path: Path) -> tuple[str, dict[str, np.ndarray]]:
    """Return the name under which the images lie, and every array that has a meaning here."""
    try:
        # Opened here, because NumPy does not close a file that it fails to read.
        with path.open("rb") as stream:
            file = np.load(stream, allow_pickle=False)
            if not isinstance(file, np.lib.npyio.NpzFile):
                raise ValueError("it is a .npy file by its content")
            others = [key for key in file.files if key not in _LABELS + _FACTORS]
            images = next((key for key in _IMAGES if key in file), others[0] if len(others) == 1 else None)
            if images is None:
                given = ", ".join(file.files) or "nothing"
                raise DataError(f"{path}: holds {given}, images must be in one of {', '.join(_IMAGES)}")
            arrays = {key: file[key] for key in (images, *_LABELS, *_FACTORS) if key in file}
            if not all(isinstance(array, np.ndarray) for array in arrays.values()):
                raise ValueError("a member is no .npy file")
            return images, arrays
    except DataError:
        raise
    except Exception as error:  # zip members come in many forms, and can be damaged in more
        raise DataError(f"{path}: not a .npz file of plain arrays: {_line(error)}") from error


def _in_memory(
    images: Float32[np.ndarray, "N H W C"], mapped: Shaped[np.ndarray, "..."]
) -> Float32[np.ndarray, "N H W C"]:
    # A view of the file would change, or crash the process, when the file does.
    return np.array(images) if np.may_share_memory(images, mapped) else np.asarray(images)


def _line(error: Exception) -> str:
    return " ".join(str(error).split())
