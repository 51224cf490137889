"""Codes: those that somebody gives, checked against a spec; and those of maps, as the vectors that tools work on."""

import math

import numpy as np
from jaxtyping import Float, Float64, Shaped

from ae_core.errors import DataError
from ae_core.spec import Spec
from ae_core.training.engine import Inference

Images = Float[np.ndarray, "N H W C"]
Vectors = Float[np.ndarray, "N L"]


def check_codes(z: Shaped[np.ndarray, "..."], spec: Spec, where: str) -> Float64[np.ndarray, "N ..."]:
    """Return codes, [N, *latent shape], in float64.

    Raises:
        DataError: they do not fit the spec; the message says why.
    """
    if z.shape[1:] != spec.latent_shape or len(z) == 0:
        expected = ", ".join(map(str, spec.latent_shape))
        raise DataError(f"{where}: given shape {z.shape}; expected [N, {expected}], N at least 1")
    if z.dtype.kind not in "fiu" or not np.isfinite(z).all():
        given = f"dtype {z.dtype}" if z.dtype.kind not in "fiu" else "NaN or infinity"
        raise DataError(f"{where}: given {given}; expected finite numbers")
    if not (np.abs(z) <= np.finfo(spec.training.precision).max).all():
        raise DataError(f"{where}: given numbers beyond {spec.training.precision}, the model's precision")
    return z.astype(np.float64)


class VectorCodes:
    """A model whose codes are vectors, [N, latent size], whatever their shape is: a map is read in C order.

    Tools that draw, walk and measure take codes so; of vectors nothing changes.
    """

    def __init__(self, model: Inference, spec: Spec) -> None:
        self.model, self.shape = model, spec.latent_shape

    def encode(self, images: Images) -> Vectors:
        """Return codes as vectors."""
        return self._flat(self.model.encode(images))

    def posterior(self, images: Images) -> tuple[Vectors, Vectors]:
        """Return mean and logvar of each image's posterior, as vectors.

        Raises:
            SpecError: a code of the model has no posterior.
        """
        mean, logvar = self.model.posterior(images)
        return self._flat(mean), self._flat(logvar)

    def decode(self, z: Vectors) -> Images:
        """Return the images that codes, given as vectors, stand for."""
        return self.model.decode(z.reshape(len(z), *self.shape))

    def reconstruct(self, images: Images) -> Images:
        """Return ``decode(encode(images))``."""
        return self.model.reconstruct(images)

    def evaluate(self, images: Images) -> dict[str, float]:
        """Return the loss and its terms, averaged over the images."""
        return self.model.evaluate(images)

    def _flat(self, codes: Float[np.ndarray, "N ..."]) -> Vectors:
        return codes.reshape(len(codes), math.prod(self.shape))
