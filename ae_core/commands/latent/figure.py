"""What the commands share that draw a figure of a latent space."""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ae_core.commands.inputs import Flat, open_model
from ae_core.data import DataOptions, Dataset, load
from ae_core.errors import DataError, check_between, nearest
from ae_core.files.output import check_file
from ae_core.latent.codes import VectorCodes
from ae_core.spec import Spec
from ae_core.training.engine import Engine

MAX_STEPS, MAX_SIZE, MAX_ROWS = 30, 40, 10
"""The most images in a row, along a side of a grid map, and rows, that can still be told apart."""


@dataclass(frozen=True)
class Figure:
    """What a command takes that draws a figure of images and their codes."""

    weights: Path
    """Weights file."""
    data: str
    """Images: a .npy, .npz, IDX or picture file, a folder of pictures, or the name of a data set."""
    out: Path
    """Figure to write, .png."""
    data_options: Flat = field(default_factory=DataOptions)
    """How the images are brought to the spec's shape."""
    force: bool = False
    """Overwrite the output file."""

    def opened(self, engine: Engine) -> tuple[Spec, VectorCodes, Dataset]:
        """Return the spec, the model, its codes taken as vectors, and the images.

        Raises:
            UserError: one of them cannot be used, or the figure may not be written.
        """
        check_file(self.out, (".png",), self.force)
        spec, model = open_model(engine, self.weights)
        return spec, VectorCodes(model, spec), load(self.data, spec.input_shape, self.data_options)


def values_of(data: Dataset, name: str) -> np.ndarray:
    """Return what is known of the images under a name: "label", or that of a factor; [N].

    Raises:
        DataError: nothing is known under that name.
    """
    known = {} if data.labels is None else {"label": data.labels}
    if data.factors is not None:
        known |= dict(zip(data.factor_names, data.factors.T, strict=True))
    if name not in known:
        right = nearest(name, known) if known else "it has neither labels nor factors"
        raise DataError(f'{data.name}: nothing called "{name}" is known of its images; {right}')
    return known[name]


def image_number(flag: str, given: int, data: Dataset) -> int:
    """Return the number of an image, from 0.

    Raises:
        DataError: there is no such image.
    """
    check_between(flag, given, 0, len(data.images) - 1)
    return given


def latent_indices(given: list[int], wide: int) -> list[int]:
    """Return the indices, from 0, of latents that are given by their numbers, from 1.

    Raises:
        DataError: one of them is not among the ``wide`` latents.
    """
    for dimension in given:
        check_between("--dimensions", dimension, 1, wide)
    return [dimension - 1 for dimension in given]


def announce(path: Path, what: str) -> int:
    """Say what was written, and where; return the exit status 0."""
    print(f"{what}: {path}")
    return 0
