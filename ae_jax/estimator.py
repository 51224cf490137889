"""A scikit-learn estimator that trains on JAX; see `ae_core.estimator`."""

from ae_core import estimator
from ae_jax.fitted import Fitted


class AutoencoderEstimator(estimator.AutoencoderEstimator):
    """The JAX twin's autoencoder on rows of numbers; see `ae_core.estimator.AutoencoderEstimator`."""

    _model_class = Fitted
