"""A scikit-learn estimator that trains on PyTorch; see `ae_core.estimator`."""

from ae_core import estimator
from ae_torch.fitted import Fitted


class AutoencoderEstimator(estimator.AutoencoderEstimator):
    """The PyTorch twin's autoencoder on rows of numbers; see `ae_core.estimator.AutoencoderEstimator`."""

    _model_class = Fitted
