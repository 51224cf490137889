"""Presets: specs with a name."""

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType

from ae_core.errors import SpecError, nearest
from ae_core.spec.backbone import ConvBackbone, DenseBackbone
from ae_core.spec.bottleneck import GaussianBottleneck, PlainBottleneck, SigmoidBottleneck, TopKBottleneck
from ae_core.spec.corruption import MaskingNoise
from ae_core.spec.likelihood import BernoulliLikelihood
from ae_core.spec.model import Spec, Training, spec_to_json
from ae_core.spec.optimizer import Adam
from ae_core.spec.penalty import Contractive, SparseKL
from ae_core.spec.residual import ResidualBackbone
from ae_core.spec.schedule import Cosine, Ramp

# Foster, "Generative Deep Learning", 2nd ed., chapter 3; eps is the default of Keras, which the book uses.
_FOSTER_AE = Spec(
    input_shape=(32, 32, 1),
    backbone=ConvBackbone(channels=(32, 64, 128), strides=(2, 2, 2), kernel=3, padding="same", activation="relu"),
    bottleneck=PlainBottleneck(latent=2),
    likelihood=BernoulliLikelihood(reduction="mean"),
    initializer="glorot_uniform",
    training=Training(optimizer=Adam(learning_rate=1e-3, eps=1e-7), batch_size=100, epochs=3),
)

_PRESETS: dict[str, Spec] = {
    "foster-ae": _FOSTER_AE,
    "foster-vae": replace(
        _FOSTER_AE,
        bottleneck=GaussianBottleneck(latent=2, kl_weight=1.0),
        likelihood=BernoulliLikelihood(reduction="mean", weight=500.0),
        training=Training(optimizer=Adam(learning_rate=5e-4, eps=1e-7), batch_size=100, epochs=5),
    ),
    "dense-mnist": Spec(
        input_shape=(28, 28, 1),
        backbone=DenseBackbone(hidden=(128,)),
        bottleneck=PlainBottleneck(latent=32),
        training=Training(batch_size=64, epochs=10),
    ),
    "dense-digits": Spec(
        input_shape=(8, 8, 1),
        backbone=DenseBackbone(hidden=(128, 64)),
        bottleneck=PlainBottleneck(latent=2),
        training=Training(batch_size=64, epochs=50),
    ),
    # Two latents are a map to look at: a net without kinks, and a rate that falls to 0, make it smooth; the KL term,
    # weighted by 4, draws codes together, so that what lies between them looks like a garment too.
    "wardrobe": Spec(
        input_shape=(32, 32, 1),
        backbone=DenseBackbone(hidden=(256, 128), activation="gelu_tanh"),
        bottleneck=GaussianBottleneck(latent=2, kl_weight=4.0),
        likelihood=BernoulliLikelihood(reduction="sum"),
        training=Training(Adam(learning_rate=1e-3), Cosine(), batch_size=64, epochs=20),
    ),
    # Of 64 numbers of a code 8 are kept, others for each image.
    "topk": Spec(
        input_shape=(32, 32, 1),
        backbone=DenseBackbone(hidden=(256, 128), activation="gelu_tanh"),
        bottleneck=TopKBottleneck(latent=64, k=8),
        likelihood=BernoulliLikelihood(reduction="sum"),
        training=Training(Adam(learning_rate=1e-3), Cosine(), batch_size=64, epochs=20),
    ),
    # One layer of sigmoid units, as in Ng's notes; each is drawn to be on for a tenth of the images.
    "sparse": Spec(
        input_shape=(28, 28, 1),
        backbone=DenseBackbone(hidden=()),
        bottleneck=SigmoidBottleneck(latent=100),
        likelihood=BernoulliLikelihood(reduction="sum"),
        training=Training(Adam(learning_rate=1e-2), Cosine(), batch_size=64, epochs=20),
        penalties=(SparseKL(weight=15.0, rate=0.1),),
    ),
    # The code may change less with the image: what it has to tell apart stays, what it need not goes.
    "contractive": Spec(
        input_shape=(28, 28, 1),
        backbone=DenseBackbone(hidden=(128,), activation="gelu_tanh"),
        bottleneck=PlainBottleneck(latent=8),
        likelihood=BernoulliLikelihood(reduction="sum"),
        training=Training(Adam(learning_rate=3e-3), Cosine(), batch_size=64, epochs=8),
        penalties=(Contractive(weight=0.1),),
    ),
    # The encoder sees half of the pixels; the loss is against all of them.
    "denoising": Spec(
        input_shape=(28, 28, 1),
        backbone=DenseBackbone(hidden=(512, 256)),
        bottleneck=PlainBottleneck(latent=32),
        training=Training(Adam(learning_rate=1e-3), Cosine(), batch_size=64, epochs=20),
        corruption=MaskingNoise(0.5),
    ),
    # A KL term of this weight collapses the code where it has it from the first step: no number of it is used.
    "annealed": Spec(
        input_shape=(32, 32, 1),
        backbone=DenseBackbone(hidden=(256, 128, 64)),
        bottleneck=GaussianBottleneck(latent=16, kl_weight=Ramp(start=0.0, end=8.0, steps=200)),
        likelihood=BernoulliLikelihood(reduction="sum"),
        training=Training(Adam(learning_rate=2e-3), batch_size=64, epochs=20),
    ),
    # foster-ae with other layers, and a few less of its parameters.
    "residual": replace(_FOSTER_AE, backbone=ResidualBackbone(channels=(16, 32, 48), strides=(2, 2, 2), groups=8)),
}


PRESETS: Mapping[str, Spec] = MappingProxyType(_PRESETS)
"""All presets by name, those of plugins included; see `register_preset`."""


def register_preset(name: str, spec: object) -> None:
    """Make a spec known by a name. The same spec under the same name again, as from a module's reload, is no fault.

    Raises:
        SpecError: it is no spec, or the name is that of another preset.
    """
    if not isinstance(spec, Spec):
        raise SpecError(f'preset "{name}": given {type(spec).__name__}; expected a Spec')
    if name in _PRESETS and spec_to_json(spec) != spec_to_json(_PRESETS[name]):
        raise SpecError(f'preset "{name}": given another spec for a name that is taken; expected a name of its own')
    _PRESETS[name] = spec


def preset(name: str) -> Spec:
    """Return the preset of that name.

    Raises:
        SpecError: there is none; the nearest name is given.
    """
    if name not in PRESETS:
        raise SpecError(f'unknown preset "{name}"; {nearest(name, PRESETS)}')
    return PRESETS[name]
