"""One door to every data set: a name or a path in, images of the wanted shape out."""

import os
from pathlib import Path

from ae_core.data.adapt import adapt_images
from ae_core.data.arrays import read_npy, read_npz
from ae_core.data.cans import cans
from ae_core.data.dataset import DEFAULT_OPTIONS, DataOptions, Dataset, Shape
from ae_core.data.digits import digits
from ae_core.data.garments import garments
from ae_core.data.idx import read_idx
from ae_core.data.mnist import mnist
from ae_core.data.pictures import SUFFIXES, read_folder, read_picture
from ae_core.data.validate import validate_images
from ae_core.errors import DataError, nearest

PROCEDURAL = {"cans": cans, "garments": garments}
COUNT = 10_000
"""Images of a procedural data set where no count is given."""
NAMES = ("cans", "garments", "digits", "mnist", "fashion-mnist")


def load(source: str, shape: Shape, options: DataOptions = DEFAULT_OPTIONS) -> Dataset:
    """Return the data set ``source`` with images of exactly ``shape`` = (H, W, C).

    ``source`` is ``cans`` or ``garments``, drawn at that very size; ``digits``; ``mnist`` or ``fashion-mnist``, 60,000
    training and then 10,000 test images; or a path that :func:`read_images` reads. A name wins over a file that is
    called the same.

    Raises ``DataError`` for a source that is unknown or damaged, or that ``options`` do not bring to ``shape``.
    """
    if source in PROCEDURAL:
        count = COUNT if options.count is None else options.count
        return PROCEDURAL[source](count, shape[:2], options.data_seed, shape[2])
    if options.count is not None and (source in NAMES or os.path.exists(source)):
        raise DataError(f"{source}: given a count of {options.count}; expected one for {' or '.join(PROCEDURAL)} alone")
    if source == "digits":
        return _adapted(digits(), shape, options, source)
    if source in NAMES:
        return _adapted(mnist(source, options.data_folder), shape, options, source)
    return read_images(source, shape, options)


def read_images(path: str | Path, shape: Shape, options: DataOptions = DEFAULT_OPTIONS) -> Dataset:
    """Return the images at ``path``, brought to ``shape`` = (H, W, C).

    ``path`` is a .npy, .npz, .png or .jpg file, an IDX file (gzipped or not), or a folder of pictures.

    Raises ``DataError`` that names the path when nothing is there, or nothing that can be read as images.
    """
    path = Path(path)
    # Path.exists would raise for a name that is too long.
    if not os.path.exists(path):
        raise DataError(f'no data set, file or folder "{path}": {nearest(str(path), NAMES)}, or a path')
    if path.is_dir():
        return read_folder(path, shape, options)
    suffix = path.suffix.lower()
    if suffix == ".npy":
        dataset = read_npy(path)
    elif suffix == ".npz":
        dataset = read_npz(path)
    elif suffix in SUFFIXES:
        dataset = Dataset(path.name, read_picture(path))
    else:
        dataset = Dataset(path.name, validate_images(read_idx(path), str(path)))
    return _adapted(dataset, shape, options, str(path))


def _adapted(dataset: Dataset, shape: Shape, options: DataOptions, where: str) -> Dataset:
    return dataset._replace(images=adapt_images(dataset.images, shape, options, where))
