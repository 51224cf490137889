"""What an autoencoder and its training are, as data: components, their JSON, presets."""

from ae_core.spec.model import MAX_STEPS as MAX_STEPS
from ae_core.spec.model import SGD as SGD
from ae_core.spec.model import Activation as Activation
from ae_core.spec.model import Adam as Adam
from ae_core.spec.model import AdamW as AdamW
from ae_core.spec.model import BatchNorm as BatchNorm
from ae_core.spec.model import BernoulliLikelihood as BernoulliLikelihood
from ae_core.spec.model import ConvBackbone as ConvBackbone
from ae_core.spec.model import DenseBackbone as DenseBackbone
from ae_core.spec.model import GaussianBottleneck as GaussianBottleneck
from ae_core.spec.model import GaussianLikelihood as GaussianLikelihood
from ae_core.spec.model import GroupNorm as GroupNorm
from ae_core.spec.model import Initializer as Initializer
from ae_core.spec.model import LayerNorm as LayerNorm
from ae_core.spec.model import Norm as Norm
from ae_core.spec.model import Padding as Padding
from ae_core.spec.model import PlainBottleneck as PlainBottleneck
from ae_core.spec.model import Precision as Precision
from ae_core.spec.model import Reduction as Reduction
from ae_core.spec.model import Schedule as Schedule
from ae_core.spec.model import Spec as Spec
from ae_core.spec.model import Training as Training
from ae_core.spec.model import load_spec as load_spec
from ae_core.spec.model import spec_from_json as spec_from_json
from ae_core.spec.model import spec_to_json as spec_to_json
