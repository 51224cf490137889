"""The command that makes new images."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import tyro

from ae_core import latent
from ae_core.commands.inputs import open_model, read_codes, written
from ae_core.data import DataOptions, load
from ae_core.errors import DataError, SpecError, as_data_error, check_between
from ae_core.files.output import check_file
from ae_core.latent.codes import VectorCodes
from ae_core.latent.fitting import MAX_DRAWS, fit_sampler
from ae_core.spec import Spec
from ae_core.training.engine import Engine


@dataclass(frozen=True)
class Sample:
    """Make new images: from the prior, from a density fitted to the codes of images, or from given points."""

    weights: Path
    """Weights file."""
    out: Path
    """Output file."""
    count: int = 16
    """Number of draws."""
    seed: int = 0
    """Of the draws, and of the mixture's fit."""
    points: Path | None = None
    """Codes to decode in place of draws, [N, *latent shape], as .npy."""
    sampler: Literal["prior", "gaussian", "mixture", "box"] = "prior"
    """prior: the bottleneck's own, N(0, I) of a Gaussian one; the others are fitted to the codes of --data."""
    data: str | None = None
    """Images to whose codes the sampler is fitted: a data set's name, a file or a folder."""
    data_options: Annotated[DataOptions, tyro.conf.arg(name="data")] = field(default_factory=DataOptions)
    """How the images are brought to the spec's shape."""
    components: int = 10
    """Gaussians in the mixture."""
    force: bool = False
    """Overwrite the output file."""

    def run(self, engine: Engine) -> int:
        """Sample and write."""
        check_file(self.out, (".npy", ".png"), self.force)
        spec, model = open_model(engine, self.weights)
        if self.points is not None:
            images = model.decode(read_codes(self.points, spec))
        else:
            check_between("--count", self.count, 1, MAX_DRAWS)
            vectors = VectorCodes(model, spec)
            images = vectors.decode(self._sampler(spec, vectors).draw(self.count, self.seed))
        return written(self.out, "samples", images.astype(np.float32))

    def _sampler(self, spec: Spec, model: VectorCodes) -> latent.Sampler:
        if self.sampler == "prior":
            prior = spec.bottleneck.prior(spec.latent_size)
            if prior is None:
                right = "give --points codes.npy, or --sampler mixture --data with images to fit it to"
                kind = spec.bottleneck.kind
                raise SpecError(f'{self.weights}: a "{kind}" bottleneck has no prior to draw from; {right}')
            return prior
        if self.data is None:
            raise DataError(f"--sampler {self.sampler}: it is fitted to codes; give --data with images to encode")
        codes = model.encode(load(self.data, spec.input_shape, self.data_options).images)
        with as_data_error():
            return fit_sampler(self.sampler, codes, self.components, self.seed)
