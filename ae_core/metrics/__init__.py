"""Numbers that judge an autoencoder: its reconstructions, its density, its latent space.

Every formula is written out in NumPy, so that no metric drifts with a library; all sums are float64.
"""

from ae_core.metrics.dci import Dci as Dci
from ae_core.metrics.dci import dci as dci
from ae_core.metrics.dci import dci_scores as dci_scores
from ae_core.metrics.dci import lasso as lasso
from ae_core.metrics.factors import linear_r2 as linear_r2
from ae_core.metrics.factors import mig as mig
from ae_core.metrics.factors import monotone as monotone
from ae_core.metrics.factors import sap as sap
from ae_core.metrics.factors import smooth_r2 as smooth_r2
from ae_core.metrics.knn import knn_agreement as knn_agreement
from ae_core.metrics.knn import trustworthiness as trustworthiness
from ae_core.metrics.reconstruction import bce as bce
from ae_core.metrics.reconstruction import bits_per_dimension as bits_per_dimension
from ae_core.metrics.reconstruction import log_probability as log_probability
from ae_core.metrics.reconstruction import mse as mse
from ae_core.metrics.reconstruction import pca_mse as pca_mse
from ae_core.metrics.reconstruction import psnr as psnr
from ae_core.metrics.reconstruction import ssim as ssim
from ae_core.metrics.samples import energy_distance as energy_distance
from ae_core.metrics.variational import active_units as active_units
from ae_core.metrics.variational import elbo as elbo
from ae_core.metrics.variational import importance_weighted as importance_weighted
from ae_core.metrics.variational import kl_per_dimension as kl_per_dimension
