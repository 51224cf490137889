"""Images in picture files: one, a folder of them, or a folder with one sub-folder for each label."""

import warnings
from pathlib import Path

import numpy as np
from jaxtyping import Float32

from ae_core.data.adapt import adapt_images
from ae_core.data.dataset import DataOptions, Dataset, Shape
from ae_core.data.validate import validate_images
from ae_core.errors import DataError

SUFFIXES = (".png", ".jpg", ".jpeg")


def read_picture(path: Path) -> Float32[np.ndarray, "1 h w c"]:
    """Return one picture in [0, 1], upright: one channel when it is gray, else three; transparency is dropped.

    Raises ``DataError`` that names a file which is truncated or not a picture.
    """
    from PIL import Image, ImageOps

    try:
        with warnings.catch_warnings(), Image.open(path) as file:
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            upright = ImageOps.exif_transpose(file)
            if upright.mode.startswith("I"):
                return np.asarray(upright)[None, ..., None].astype(np.float32) / np.float32(65535)
            gray = upright.mode in ("1", "L", "LA", "La")
            pixels = np.asarray(upright.convert("L" if gray else "RGB"))
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        reason = " ".join(str(error).split())
        raise DataError(f"{path}: not a readable picture: {reason}") from error
    return validate_images(pixels.reshape(1, *pixels.shape[:2], -1), str(path))


def read_folder(folder: Path, shape: Shape, options: DataOptions) -> Dataset:
    """Return the pictures of a folder, sorted by name, each brought to ``shape`` = (H, W, C).

    A folder without pictures of its own is searched one level down; its sub-folders, sorted by name, are the labels.

    Raises ``DataError`` for a folder without pictures, and for the first picture that cannot be read or does not fit.
    """
    from rich.console import Console
    from rich.progress import track

    paths, labels = _pictures(folder), None
    if not paths:
        classes = [pictures for sub in sorted(_visible(folder)) if sub.is_dir() and (pictures := _pictures(sub))]
        paths = [path for pictures in classes for path in pictures]
        labels = np.repeat(np.arange(len(classes), dtype=np.int64), [len(pictures) for pictures in classes])
    if not paths:
        raise DataError(f"{folder}: holds no pictures ({', '.join(SUFFIXES)}), nor do its sub-folders")
    images = np.empty((len(paths), *shape), np.float32)
    console = Console(stderr=True)
    shown = track(paths, folder.name, console=console, transient=True, disable=not console.is_terminal)
    for image, path in zip(images, shown, strict=True):
        image[...] = adapt_images(read_picture(path), shape, options, str(path))[0]
    return Dataset(folder.name, images, labels=labels)


def _pictures(folder: Path) -> list[Path]:
    return sorted(path for path in _visible(folder) if path.suffix.lower() in SUFFIXES and path.is_file())


def _visible(folder: Path) -> list[Path]:
    return [path for path in folder.iterdir() if not path.name.startswith(".")]
