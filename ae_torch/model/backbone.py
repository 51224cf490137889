"""The doors of backbones: what stands behind them is in the file of each kind."""

from functools import singledispatch

from torch import nn

from ae_core.spec import Backbone, Spec, missing


@singledispatch
def make_encoder(backbone: Backbone, spec: Spec) -> nn.Module:
    """Return the encoder, a module: ``encoder(x, noise) -> features``, from [B, H, W, C] to [B, *feature shape].

    ``noise`` is that of all sites of the spec, by name; without any, in evaluation, its own is left out.

    Raises:
        MissingError: none is registered for this kind.
    """
    raise missing("ae_torch", "make_encoder", backbone)


@singledispatch
def make_decoder(backbone: Backbone, spec: Spec) -> nn.Module:
    """Return the decoder, a module: ``decoder(z, noise) -> output``, from [B, *latent shape] to [B, H, W, C].

    Its output is the logits or the mean of the likelihood; for ``noise`` see `make_encoder`.

    Raises:
        MissingError: none is registered for this kind.
    """
    raise missing("ae_torch", "make_decoder", backbone)
