"""The command that encodes and decodes images."""

from dataclasses import dataclass

import numpy as np

from ae_core.commands.inputs import WithImages, open_model, written
from ae_core.data import load
from ae_core.files.output import check_file
from ae_core.training.engine import Engine


@dataclass(frozen=True)
class Reconstruct(WithImages):
    """Encode and decode images: write probabilities or means, [N, H, W, C], as .npy or a picture."""

    def run(self, engine: Engine) -> int:
        """Reconstruct and write."""
        check_file(self.out, (".npy", ".png"), self.force)
        spec, model = open_model(engine, self.weights)
        images = load(self.images, spec.input_shape, self.data_options).images
        return written(self.out, "reconstructions", model.reconstruct(images).astype(np.float32))
