"""The command that puts images away."""

from dataclasses import dataclass

import numpy as np

from ae_core.commands.inputs import WithImages, open_model, written
from ae_core.data import load
from ae_core.files.output import check_file
from ae_core.training.engine import Engine


@dataclass(frozen=True)
class Encode(WithImages):
    """Put images away: write their codes, [N, *latent shape], as .npy; where a code has a posterior, its mean."""

    def run(self, engine: Engine) -> int:
        """Encode and write."""
        check_file(self.out, (".npy",), self.force)
        spec, model = open_model(engine, self.weights)
        z = model.encode(load(self.images, spec.input_shape, self.data_options).images)
        return written(self.out, "codes", z.astype(np.float32))
