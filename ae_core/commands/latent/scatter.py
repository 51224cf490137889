"""The command that draws codes in the plane."""

from dataclasses import dataclass

from ae_core.commands.latent.figure import Figure, announce, values_of
from ae_core.figures.charts import latent_scatter, save_figure
from ae_core.training.engine import Engine


@dataclass(frozen=True)
class Scatter(Figure):
    """Draw the codes of images in the plane, coloured by label or factor; of wide codes their PCA."""

    colour: str | None = None
    """"label" or the name of a factor; the label where there is one, else the first factor."""

    def run(self, engine: Engine) -> int:
        """Encode and draw."""
        _, model, data = self.opened(engine)
        name = self.colour
        if name is None:
            name = "label" if data.labels is not None else (data.factor_names or ("",))[0]
        values = values_of(data, name) if name else None
        codes = {data.name: model.encode(data.images)}
        save_figure(self.out, latent_scatter(codes, values, name, name == "label", data.label_names))
        return announce(self.out, f"{len(data.images):,} codes")
