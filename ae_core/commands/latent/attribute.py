"""The command that gives images an attribute."""

from dataclasses import dataclass

import numpy as np

from ae_core import latent
from ae_core.commands.latent.figure import MAX_ROWS, MAX_STEPS, Figure, announce, image_number, values_of
from ae_core.errors import DataError, as_data_error, check_between, nearest
from ae_core.figures import latent as latent_figures
from ae_core.figures.charts import save_figure
from ae_core.training.engine import Engine


@dataclass(frozen=True)
class Attribute(Figure):
    """Give images an attribute, or take it: add to their codes the way from images without it to those with it."""

    of: str = "label"
    """A factor's name: having it is to be above its median. Or label=3: the images with that label."""
    images: tuple[int, ...] = (0, 1, 2, 3)
    """Numbers of the images, from 0."""
    strength: float = 1.0
    """The largest multiple of the way that is added and taken away."""
    steps: int = 9
    """Multiples from −strength to strength."""

    def run(self, engine: Engine) -> int:
        """Find the way, go it and draw."""
        spec, model, data = self.opened(engine)
        check_between("--steps", self.steps, 2, MAX_STEPS)
        check_between("--images", len(self.images), 1, MAX_ROWS, "images")
        if not np.isfinite(self.strength):
            raise DataError(f"--strength: given {self.strength}; expected a finite number")
        chosen = [image_number("--images", i, data) for i in self.images]
        name, _, label = self.of.partition("=")
        values = values_of(data, name)
        if name == "label":
            has = values.astype(str) == label
            if not has.any():
                raise DataError(
                    f'--of: no image has the label "{label}"; {nearest(label, map(str, np.unique(values)))}'
                )
        else:
            has = values > np.median(values)
        codes = model.encode(data.images)
        with as_data_error():
            way = latent.attribute_vector(codes, has)
        multiples = np.linspace(-self.strength, self.strength, self.steps)
        spots = codes[chosen][:, None] + multiples[:, None] * way
        images = model.decode(spots.reshape(-1, len(way))).reshape(*spots.shape[:2], *spec.input_shape)
        rows = {f"image {i}": row for i, row in zip(chosen, images, strict=True)}
        texts = [latent_figures.number(m) for m in multiples]
        title = f"plus so many times the way to {self.of if label else f'a larger {name}'}"
        save_figure(self.out, latent_figures.labelled_rows(rows, texts, title))
        return announce(self.out, f"{len(rows)} images, {self.steps} steps each")
