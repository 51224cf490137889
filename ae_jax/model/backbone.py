"""The doors of backbones: what stands behind them is in the file of each kind."""

from functools import singledispatch
from typing import Any

from ae_core.spec import Backbone, Spec, missing


@singledispatch
def make_encoder(backbone: Backbone, spec: Spec) -> Any:
    """Return the encoder, a Linen module: ``encoder(x, noise, mask) -> features``.

    From images [B, H, W, C] to [B, *feature shape]. ``noise`` is that of all sites of the spec, by name; without any,
    in evaluation, its own is left out. ``mask`` is 1 for each sample and 0 for those that only fill up a batch; None in
    evaluation.

    Raises:
        MissingError: none is registered for this kind.
    """
    raise missing("ae_jax", "make_encoder", backbone)


@singledispatch
def make_decoder(backbone: Backbone, spec: Spec) -> Any:
    """Return the decoder, a Linen module: ``decoder(z, noise, mask) -> output``.

    From codes [B, *latent shape] to [B, H, W, C], the logits or the mean of the likelihood; for ``noise`` and ``mask``
    see `make_encoder`.

    Raises:
        MissingError: none is registered for this kind.
    """
    raise missing("ae_jax", "make_decoder", backbone)
