"""The command that looks around a spot."""

from dataclasses import dataclass

import numpy as np

from ae_core import latent
from ae_core.commands.latent.figure import MAX_STEPS, Figure, announce
from ae_core.errors import DataError, check_between
from ae_core.figures import latent as latent_figures
from ae_core.figures.charts import save_figure
from ae_core.training.engine import Engine


@dataclass(frozen=True)
class Neighbours(Figure):
    """Recreate what hangs at a spot of the latent space, beside the real images that hang nearest."""

    spot: tuple[float, ...] = ()
    """The code, as many numbers as the model has latents."""
    nearest: int = 9
    """Number of neighbours."""

    def run(self, engine: Engine) -> int:
        """Decode, look around and draw."""
        spec, model, data = self.opened(engine)
        check_between("--nearest", self.nearest, 1, MAX_STEPS)
        if len(self.spot) != spec.latent_size or not np.isfinite(self.spot).all():
            given = " ".join(f"{value:g}" for value in self.spot) or "none"
            raise DataError(f"--spot: given {given}; expected {spec.latent_size} finite numbers")
        spot = np.array(self.spot)
        found, distances = latent.neighbours(spot, model.encode(data.images), self.nearest)
        rows = {"the spot": model.decode(spot[None]), "nearest": data.images[found]}
        texts = [latent_figures.number(d) for d in distances]
        place = ", ".join(latent_figures.number(value) for value in spot[:6]) + (", …" if len(spot) > 6 else "")
        title = f"decoded at ({place}), and the nearest of {data.name} with their distances"
        save_figure(self.out, latent_figures.labelled_rows(rows, texts, title))
        return announce(self.out, f"{len(found)} neighbours: images {', '.join(map(str, found))}")
