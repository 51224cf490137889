"""The PyTorch twin: the reference, ordinary modules, on CPU and GPU.

>>> import ae_torch
>>> from ae_core import preset
>>> model = ae_torch.build(preset("foster-ae")).init(seed=0)
"""

from typing import TYPE_CHECKING, Any

from ae_core.system.extras import require

require("torch")

import ae_torch.model.conv  # noqa: E402
import ae_torch.model.dense  # noqa: E402
import ae_torch.model.residual  # noqa: E402, F401 (each file registers what it makes)
from ae_torch.fitted import Fitted as Fitted  # noqa: E402
from ae_torch.fitted import fit as fit  # noqa: E402
from ae_torch.model.autoencoder import Autoencoder as Autoencoder  # noqa: E402
from ae_torch.model.autoencoder import Loss as Loss  # noqa: E402
from ae_torch.model.autoencoder import build as build  # noqa: E402
from ae_torch.tensors import from_tensors as from_tensors  # noqa: E402
from ae_torch.tensors import to_tensors as to_tensors  # noqa: E402
from ae_torch.training import Batch as Batch  # noqa: E402
from ae_torch.training import State as State  # noqa: E402
from ae_torch.training import make_training as make_training  # noqa: E402
from ae_torch.weights import load as load  # noqa: E402
from ae_torch.weights import save as save  # noqa: E402

if TYPE_CHECKING:
    from ae_torch.estimator import AutoencoderEstimator as AutoencoderEstimator


def __getattr__(name: str) -> Any:
    if name != "AutoencoderEstimator":  # scikit-learn is imported for it alone
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from ae_torch.estimator import AutoencoderEstimator

    return AutoencoderEstimator
