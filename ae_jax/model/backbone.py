"""The doors of backbones: what stands behind them is in the file of each kind."""

from functools import singledispatch
from typing import Any

from ae_core.spec import Backbone, Spec, missing


@singledispatch
def make_encoder(backbone: Backbone, spec: Spec) -> Any:
    """Return the encoder, a Linen module: ``encoder(x, mask) -> features``, from [B, H, W, C] to [B, *feature shape].

    ``mask`` is 1 for each sample and 0 for those that only fill up a batch; given in training, None in evaluation.

    Raises:
        MissingError: none is registered for this kind.
    """
    raise missing("ae_jax", "make_encoder", backbone)


@singledispatch
def make_decoder(backbone: Backbone, spec: Spec) -> Any:
    """Return the decoder, a Linen module: ``decoder(z, mask) -> output``, from [B, *latent shape] to [B, H, W, C].

    Its output is the logits or the mean of the likelihood; for ``mask`` see `make_encoder`.

    Raises:
        MissingError: none is registered for this kind.
    """
    raise missing("ae_jax", "make_decoder", backbone)
