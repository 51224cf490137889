"""The command that changes one latent at a time."""

from dataclasses import dataclass

import numpy as np

from ae_core import latent
from ae_core.commands.latent.figure import MAX_ROWS, MAX_STEPS, Figure, announce, image_number, latent_indices
from ae_core.errors import check_between
from ae_core.figures import latent as latent_figures
from ae_core.figures.charts import save_figure
from ae_core.training.engine import Engine


@dataclass(frozen=True)
class Traverse(Figure):
    """Change one latent of an image at a time, over the range that the codes of the images have."""

    image: int = 0
    """Number of the image, from 0."""
    steps: int = 9
    """Images in a row."""
    dimensions: tuple[int, ...] = ()
    """Latents to change, from 1; the ten that vary most where absent."""

    def run(self, engine: Engine) -> int:
        """Traverse and draw."""
        spec, model, data = self.opened(engine)
        check_between("--steps", self.steps, 2, MAX_STEPS)
        codes = model.encode(data.images)
        code = codes[image_number("--image", self.image, data)]
        chosen = latent_indices(list(self.dimensions), spec.latent_size)
        chosen = chosen or sorted(np.argsort(-codes.std(0), kind="stable")[:MAX_ROWS].tolist())
        check_between("--dimensions", len(chosen), 1, MAX_ROWS, "latents")
        values = np.linspace(codes[:, chosen].min(0), codes[:, chosen].max(0), self.steps, axis=1).astype(np.float64)
        walks = latent.traversal(code, values, chosen)
        images = model.decode(walks.reshape(-1, len(code))).reshape(*walks.shape[:2], *spec.input_shape)
        rows = {f"latent {d + 1}": row for d, row in zip(chosen, images, strict=True)}
        texts = {name: [latent_figures.number(v) for v in row] for name, row in zip(rows, values, strict=True)}
        title = f"image {self.image} of {data.name}, one latent changed at a time"
        save_figure(self.out, latent_figures.labelled_rows(rows, texts, title))
        return announce(self.out, f"{len(rows)} latents, {self.steps} steps each")
