"""The command that maps a latent space."""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from ae_core import latent
from ae_core.commands.latent.figure import MAX_SIZE, Figure, announce, latent_indices
from ae_core.errors import check_between
from ae_core.figures import latent as latent_figures
from ae_core.figures.charts import save_figure
from ae_core.training.engine import Engine


@dataclass(frozen=True)
class Grid(Figure):
    """Decode a grid of codes over the plane: a map of the latent space."""

    span: Literal["data", "prior"] = "data"
    """data: evenly over the range of the images' codes, of wide codes in the plane of their PCA; prior: at quantiles
    of N(0, 1), other latents 0."""
    size: int = 12
    """Images along each side."""
    dimensions: tuple[int, int] = (1, 2)
    """The two latents that a map over the prior shows."""

    def run(self, engine: Engine) -> int:
        """Decode and draw."""
        spec, model, data = self.opened(engine)
        check_between("--size", self.size, 2, MAX_SIZE)
        wide = spec.latent_size
        if self.span == "prior":
            chosen = latent_indices(list(self.dimensions) if wide > 1 else [1, 1], wide)
            plane = latent.latent_plane(wide, (chosen[0], chosen[1]))
            x = latent.prior_quantiles(self.size)
            y = x if wide > 1 else np.zeros(1)
            title = "decoded at quantiles of the prior"
        else:
            codes = model.encode(data.images)
            plane, x, y = latent.data_grid(codes, self.size)
            title = f"decoded over the range of {len(codes):,} codes of {data.name}"
        shown = latent_figures.decoded_map(model.decode, plane, x, y)
        save_figure(self.out, latent_figures.grid_maps({title: shown}))
        return announce(self.out, f"{len(y)} × {len(x)} codes, decoded")
