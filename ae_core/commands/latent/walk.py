"""The command that walks from one image to another."""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from ae_core import latent
from ae_core.commands.latent.figure import MAX_STEPS, Figure, announce, image_number
from ae_core.errors import as_data_error, check_between
from ae_core.figures import latent as latent_figures
from ae_core.figures.charts import save_figure
from ae_core.training.engine import Engine


@dataclass(frozen=True)
class Walk(Figure):
    """Go from one image to another through the latent space."""

    start: int = 0
    """Number of the first image, from 0."""
    end: int = 1
    """Number of the last."""
    steps: int = 10
    """Images on the way, both ends included."""
    path: Literal["straight", "spherical", "both"] = "both"
    """straight: the line; spherical: about the origin, where most of a wide prior is far from it."""

    def run(self, engine: Engine) -> int:
        """Walk and draw."""
        _, model, data = self.opened(engine)
        check_between("--steps", self.steps, 2, MAX_STEPS)
        ends = data.images[[image_number("--start", self.start, data), image_number("--end", self.end, data)]]
        codes = model.encode(ends)
        rows = {"images": np.full((self.steps, *ends.shape[1:]), np.nan)}
        rows["images"][[0, -1]] = ends
        for name, way in (("straight", latent.straight), ("spherical", latent.spherical)):
            if self.path in (name, "both"):
                with as_data_error():
                    rows[name] = model.decode(way(codes[0], codes[1], self.steps))
        texts = [latent_figures.number(t) for t in np.linspace(0, 1, self.steps)]
        title = f"from image {self.start} to image {self.end} of {data.name}"
        save_figure(self.out, latent_figures.labelled_rows(rows, texts, title))
        return announce(self.out, f"a walk of {self.steps} steps")
