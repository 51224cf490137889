"""MNIST and Fashion-MNIST: four IDX files each, found on disk or downloaded."""

from pathlib import Path

import numpy as np

from ae_core.data.dataset import Dataset
from ae_core.data.download import download
from ae_core.data.garments import GARMENT_NAMES
from ae_core.data.idx import read_idx
from ae_core.data.validate import validate_images
from ae_core.errors import DataError

FILES = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)
URLS = {
    "mnist": "https://storage.googleapis.com/cvdf-datasets/mnist/",
    "fashion-mnist": "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/",
}
# Of the gzipped files, in the order of FILES. Source: the checksums of TensorFlow Datasets.
SHA256 = {
    "mnist": (
        "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
        "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
        "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
        "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
    ),
    "fashion-mnist": (
        "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
        "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
        "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
        "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
    ),
}


def mnist(name: str, folder: Path) -> Dataset:
    """Return the 60,000 training images followed by the 10,000 test images of ``mnist`` or ``fashion-mnist``.

    ``images`` are ``[70000, 28, 28, 1]``, ``labels`` 0 to 9. The files, gzipped or not, lie in ``folder/name`` or in
    ``folder``; those missing are downloaded to ``folder/name``.

    Raises ``DataError`` when files are missing and cannot be downloaded, damaged, or do not belong together.

    Sources: LeCun, Bottou, Bengio & Haffner, 1998; Xiao, Rasul & Vollgraf, 2017, arXiv:1708.07747.
    """
    arrays = [read_idx(path) for path in _files(name, folder)]
    where = f"{name} in {folder}"
    images = validate_images(_joined(arrays[0::2], where), where)
    labels = _joined(arrays[1::2], where)
    if labels.shape != images.shape[:1]:
        raise DataError(f"{where}: labels are {labels.shape}, must be ({len(images)},), one for each image")
    names = GARMENT_NAMES if name == "fashion-mnist" else ()
    return Dataset(name, images, labels=labels.astype(np.int64), label_names=names)


def _joined(parts: list[np.ndarray], where: str) -> np.ndarray:
    train, test = parts
    if train.shape[1:] != test.shape[1:] or train.dtype != test.dtype:
        given = f"{train.dtype} {train.shape[1:]} and {test.dtype} {test.shape[1:]}"
        raise DataError(f"{where}: training and test files hold {given}, must hold the same")
    return np.concatenate(parts)


def _files(name: str, folder: Path) -> list[Path]:
    """Return the paths of the four files, from one place: the two data sets give their files the same names."""
    own = folder / name
    for place in (own, folder):
        found = [_found(place, file) for file in FILES]
        if None not in found:
            return [path for path in found if path]
    paths = []
    for file, sha256 in zip(FILES, SHA256[name], strict=True):
        path = _found(own, file)
        if path is None:
            path = own / f"{file}.gz"
            download(f"{URLS[name]}{file}.gz", path, sha256, f"put {', '.join(FILES)} (.gz or not) into {own}")
        paths.append(path)
    return paths


def _found(place: Path, file: str) -> Path | None:
    return next((path for path in (place / file, place / f"{file}.gz") if path.is_file()), None)
