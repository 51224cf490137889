"""The command that finds strange images."""

from dataclasses import dataclass, replace

import numpy as np

from ae_core import latent
from ae_core.commands.inputs import open_model
from ae_core.commands.latent.figure import Figure, announce
from ae_core.data import load
from ae_core.data.load import PROCEDURAL
from ae_core.errors import as_data_error
from ae_core.figures import latent as latent_figures
from ae_core.figures.charts import save_figure
from ae_core.files.output import check_file, write_json
from ae_core.latent.codes import VectorCodes
from ae_core.training.engine import Engine


@dataclass(frozen=True)
class Outliers(Figure):
    """Score how unlike known images others are; leaves a .png of the strangest, or a .json of all."""

    known: str = "cans"
    """Images that are as they should be, best not those of the training; thresholds are quantiles of their scores."""
    quantile: float = 0.99
    """Of the known images' scores; 1 less it is the share of false alarms of each score."""

    def run(self, engine: Engine) -> int:
        """Score and write."""
        check_file(self.out, (".png", ".json"), self.force)
        spec, opened = open_model(engine, self.weights)
        model = VectorCodes(opened, spec)
        sources = self.data, self.known
        options = self.data_options
        # a count is for those that are drawn, where any of them is
        uncounted = replace(options, count=None) if PROCEDURAL.keys() & set(sources) else options
        data, known = (load(s, spec.input_shape, options if s in PROCEDURAL else uncounted) for s in sources)
        with as_data_error():
            detector = latent.fit_detector(model.encode, model.decode, known.images, self.quantile)
        scores = detector.scores(model.encode, model.decode, data.images)
        strange = detector.strange(scores)
        if self.out.suffix == ".json":
            names = ("reconstruction", "distance", "pixel")
            thresholds = {name: getattr(detector, name) for name in names}
            listed = {
                "reconstruction": scores.reconstruction.tolist(),
                "distance": scores.distance.tolist(),
                "strange": strange.tolist(),
            }
            write_json(self.out, {"quantile": self.quantile, "thresholds": thresholds, **listed})
        else:
            beyond = np.maximum(scores.reconstruction / detector.reconstruction, scores.distance / detector.distance)
            order = np.argsort(-beyond, kind="stable")[:10]
            images = data.images[order]
            rows = {
                "image": images,
                "recreated": model.decode(model.encode(images)),
                "strange\npixels": np.minimum(scores.pixels[order, ..., None] / detector.pixel, 1),
            }
            texts = {"image": [f"no. {i}" for i in order], "strange\npixels": [f"{beyond[i]:.1f} ×" for i in order]}
            title = f"the strangest of {data.name}, in multiples of the threshold; framed where above"
            framed = {"image": [i for i, place in enumerate(order) if strange[place]]}
            save_figure(self.out, latent_figures.labelled_rows(rows, texts, title, framed))
        return announce(self.out, f"{int(strange.sum()):,} of {len(strange):,} images are strange")
