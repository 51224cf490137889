"""The command that recreates images from codes."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ae_core.commands.inputs import WithWeights, open_model, read_codes, written
from ae_core.files.output import check_file
from ae_core.training.engine import Engine


@dataclass(frozen=True)
class Decode(WithWeights):
    """Recreate images from codes: write probabilities or means, [N, H, W, C], as .npy or a picture."""

    codes: Path
    """Codes, [N, *latent shape], as .npy."""
    force: bool = False
    """Overwrite the output file."""

    def run(self, engine: Engine) -> int:
        """Decode and write."""
        check_file(self.out, (".npy", ".png"), self.force)
        spec, model = open_model(engine, self.weights)
        return written(self.out, "images", model.decode(read_codes(self.codes, spec)).astype(np.float32))
