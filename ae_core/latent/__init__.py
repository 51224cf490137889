"""Tools to see a latent space, to walk through it and to draw from it.

All take codes and images as NumPy arrays, and the model as ``encode`` and ``decode``; none knows a framework.
"""

from ae_core.latent.attributes import analogy as analogy
from ae_core.latent.attributes import attribute_vector as attribute_vector
from ae_core.latent.attributes import neighbours as neighbours
from ae_core.latent.mixture import Mixture as Mixture
from ae_core.latent.mixture import fit_mixture as fit_mixture
from ae_core.latent.outliers import Detector as Detector
from ae_core.latent.outliers import Scores as Scores
from ae_core.latent.outliers import fit_detector as fit_detector
from ae_core.latent.outliers import upper_quantile as upper_quantile
from ae_core.latent.plane import Plane as Plane
from ae_core.latent.plane import data_grid as data_grid
from ae_core.latent.plane import data_plane as data_plane
from ae_core.latent.plane import grid_codes as grid_codes
from ae_core.latent.plane import latent_plane as latent_plane
from ae_core.latent.plane import principal_axes as principal_axes
from ae_core.latent.plane import prior_quantiles as prior_quantiles
from ae_core.latent.samplers import Box as Box
from ae_core.latent.samplers import Gaussian as Gaussian
from ae_core.latent.samplers import Prior as Prior
from ae_core.latent.samplers import Sampler as Sampler
from ae_core.latent.samplers import fit_box as fit_box
from ae_core.latent.samplers import fit_gaussian as fit_gaussian
from ae_core.latent.walks import spherical as spherical
from ae_core.latent.walks import straight as straight
from ae_core.latent.walks import traversal as traversal
