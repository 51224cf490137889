"""The JAX twin: pure Flax modules, jitted training, on CPU, GPU and TPU.

>>> import ae_jax
>>> from ae_core import preset
>>> model = ae_jax.build(preset("foster-ae"))
>>> variables = model.init(seed=0)

Importing it changes nothing of JAX's configuration. One line before JAX's first use makes each core of a CPU a device,
over which trainings and large batches are then divided, another has small programs run without a change of threads; the
command line does both by itself:

>>> import jax
>>> jax.config.update("jax_num_cpu_devices", 2)  # doctest: +SKIP
>>> jax.config.update("jax_cpu_enable_async_dispatch", False)  # doctest: +SKIP
"""

from typing import TYPE_CHECKING, Any

from ae_core.system.extras import require

require("jax")

import ae_jax.model.conv  # noqa: E402
import ae_jax.model.dense  # noqa: E402
import ae_jax.model.residual  # noqa: E402, F401 (each file registers what it makes)
from ae_jax.fitted import Fitted as Fitted  # noqa: E402
from ae_jax.fitted import fit as fit  # noqa: E402
from ae_jax.model.autoencoder import Autoencoder as Autoencoder  # noqa: E402
from ae_jax.model.autoencoder import Loss as Loss  # noqa: E402
from ae_jax.model.autoencoder import build as build  # noqa: E402
from ae_jax.tensors import from_tensors as from_tensors  # noqa: E402
from ae_jax.tensors import to_tensors as to_tensors  # noqa: E402
from ae_jax.training import Batch as Batch  # noqa: E402
from ae_jax.training import State as State  # noqa: E402
from ae_jax.training import make_training as make_training  # noqa: E402
from ae_jax.weights import load as load  # noqa: E402
from ae_jax.weights import save as save  # noqa: E402

if TYPE_CHECKING:
    from ae_jax.estimator import AutoencoderEstimator as AutoencoderEstimator


def __getattr__(name: str) -> Any:
    if name != "AutoencoderEstimator":  # scikit-learn is imported for it alone
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from ae_jax.estimator import AutoencoderEstimator

    return AutoencoderEstimator
