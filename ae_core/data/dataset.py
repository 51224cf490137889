"""What a data set is, and how its images are brought to the shape that a spec wants."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Float32, Float64, Int64

Shape = tuple[int, int, int]


@dataclass(frozen=True)
class DataOptions:
    """How images are brought to the shape that a spec wants."""

    adapt: Literal["exact", "pad", "resize"] = "exact"
    """Images of another size: refused (exact), centred in zeros (pad), or stretched, bilinear (resize)."""

    channels: Literal["exact", "gray", "rgb"] = "exact"
    """Images with other channels: refused (exact), colour to its luma (gray), or gray repeated three times (rgb)."""

    count: int | None = None
    """Number of images of a procedural data set, 10,000 where absent; refused with any other."""

    data_folder: Path = Path("data")
    """Folder in which mnist/ and fashion-mnist/ lie, or into which they are downloaded."""

    data_seed: int = 0
    """Seed of a procedural data set."""


DEFAULT_OPTIONS = DataOptions()


Draw = Callable[[Int64[np.ndarray, " N"] | None, Float64[np.ndarray, "N F"]], Float32[np.ndarray, "N H W C"]]
"""Draws images of given labels and factors."""


class Dataset(NamedTuple):
    """Images in [0, 1] with, where they are known, their labels and the factors that made them."""

    name: str
    images: Float32[np.ndarray, "N H W C"]
    labels: Int64[np.ndarray, " N"] | None = None
    factors: Float64[np.ndarray, "N F"] | None = None
    factor_names: tuple[str, ...] = ()
    label_names: tuple[str, ...] = ()
    """What the labels mean, label 0 first; empty where they are their own names."""
    draw: Draw | None = None
    """Of a procedural data set: makes other images, of the same shape, as these were made."""

    def some(self, indices: Int64[np.ndarray, " K"]) -> "Dataset":
        """Return those images, with what is known of them."""
        labels, factors = (None if known is None else known[indices] for known in (self.labels, self.factors))
        return self._replace(images=self.images[indices], labels=labels, factors=factors)
