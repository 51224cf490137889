"""The autoencoder: encode, decode, reconstruct and loss as methods of an ordinary module."""

import copy
import re
from collections.abc import Mapping
from contextlib import suppress
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ae_core.errors import SpecError
from ae_core.spec import Spec
from ae_core.spec.component import check_shape
from ae_core.spec.corruption import SITE
from ae_core.training.initial import check_state, initial_weights
from ae_torch.model.backbone import make_decoder, make_encoder
from ae_torch.model.bottleneck import NO_NOISE, Code, Coefficients, Noise, Term, make_bottleneck
from ae_torch.model.corruption import corrupt
from ae_torch.model.likelihood import make_likelihood
from ae_torch.model.penalty import Seen, penalty
from ae_torch.tensors import from_tensors, tensor_shapes


class Loss(NamedTuple):
    """A loss and its unweighted terms, each the mean over the batch."""

    total: Float[Tensor, ""]
    terms: dict[str, Float[Tensor, ""]]


class Autoencoder(nn.Module):
    """Encoder, bottleneck and decoder of a spec. In training mode, state such as running statistics is updated."""

    def __init__(self, spec: Spec) -> None:
        super().__init__()
        self.spec = spec
        backbone = spec.backbone
        self.encoder = make_encoder(backbone, spec)
        features = backbone.feature_shape(spec.input_shape)
        self.bottleneck = make_bottleneck(spec.bottleneck, features, use_bias=not backbone.absorbs_code_bias)
        self.decoder = make_decoder(backbone, spec)
        self.to(getattr(torch, spec.training.precision))
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # PyTorch's stubs lack it

    def forward(self, x: Float[Tensor, "B H W C"], noise: Noise = NO_NOISE) -> tuple[Code, Float[Tensor, "B H W C"]]:
        code = self.encode(x, noise)
        return code, self.decoder(code.z, noise)

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Names and shapes of all tensors of the weights file.

        Raises:
            SpecError: the layers of a component do not fit the spec.
        """
        _check_layers(self)
        shapes = tensor_shapes(self)
        parameters = {name for name, _ in self.named_parameters()}
        check_state(shapes, shapes.keys() - parameters, self.spec)
        for name in shapes:
            if re.search(r"_\d+\.", name):  # as Linen writes the parts of a list
                raise SpecError(f'spec: tensor "{name}"; expected no module whose name ends in "_" and a number')
        return shapes

    def init(self, seed: int = 0) -> "Autoencoder":
        """Set the initial weights and return the model; the JAX twin's are the same numbers."""
        return from_tensors(self, initial_weights(self.shapes, self.spec, seed))

    def encode(self, x: Float[Tensor, "B H W C"], noise: Noise = NO_NOISE) -> Code:
        """Return the code of images; without noise the images are clean and a posterior's z is its mean."""
        if self.spec.corruption is not None and SITE in noise:
            x = corrupt(self.spec.corruption, x, noise[SITE])
        code: Code = self.bottleneck(self.encoder(x, noise), noise)
        return code

    def decode(self, z: Float[Tensor, "B ..."]) -> Float[Tensor, "B H W C"]:
        """Return the image that each code, [B, *latent shape], stands for: probabilities or means."""
        return make_likelihood(self.spec.likelihood).mean(self.decoder(z, NO_NOISE))

    def reconstruct(self, x: Float[Tensor, "B H W C"]) -> Float[Tensor, "B H W C"]:
        """Return ``decode(encode(x).z)``."""
        return self.decode(self.encode(x).z)

    def loss(
        self, x: Float[Tensor, "B H W C"], noise: Noise = NO_NOISE, coefficients: Coefficients | None = None
    ) -> Loss:
        """Return the training loss, averaged over the batch.

        Args:
            x: clean images in [0, 1].
            noise: by the name of its site; without any, images are not corrupted and a posterior's z is its mean.
            coefficients: weights of terms and the like, by name; what they come to in the end when absent.
        """
        coefficients = self.spec.last_coefficients if coefficients is None else coefficients
        code, output = self(x, noise)
        weighted = self._terms(Seen(x, code, output, self.encode), coefficients)
        terms = {name: values.mean() for name, (_, values) in weighted.items()}
        parts = [factor * terms[name] for name, (factor, _) in weighted.items() if factor is not None]
        return Loss(torch.stack(parts).sum(), terms)

    def _terms(self, seen: Seen, coefficients: Coefficients) -> Mapping[str, Term]:
        spec = self.spec
        values = make_likelihood(spec.likelihood).negative_log_likelihood(seen.output, seen.x)
        terms: dict[str, Term] = {"reconstruction": (coefficients["reconstruction"], values)}
        terms |= seen.code.penalties(spec.bottleneck, coefficients)
        return terms | {part.kind: (coefficients[part.kind], penalty(part, seen)) for part in spec.penalties}


_CHECKED: set[Spec] = set()
"""Specs whose layers fit them."""
_SMALL = 2**26
"""The most numbers for which memory is taken to see shapes; more go through PyTorch's rules for shapes alone, whose
import takes seconds."""


def _check_layers(model: Autoencoder) -> None:
    """Refuse layers whose output has another shape than the spec says, by a pass of one black image."""
    spec = model.spec
    if spec in _CHECKED:
        return
    backbone, bottleneck, training = spec.backbone, spec.bottleneck, model.training
    if sum(tensor.numel() for tensor in model.parameters() if tensor.is_meta) in range(1, _SMALL):
        model = copy.deepcopy(model).to_empty(device="cpu")
    like = next(model.parameters(), torch.zeros((), dtype=getattr(torch, spec.training.precision)))
    # what breaks down here is told by whoever runs the model in earnest
    with torch.no_grad(), suppress(NotImplementedError, RuntimeError):
        try:
            model.eval()
            features = model.encoder(like.new_zeros(1, *spec.input_shape), NO_NOISE)
            expected = backbone.feature_shape(spec.input_shape)
            check_shape("ae_torch", backbone, "features", features.shape[1:], expected, "feature_shape")
            code = model.bottleneck(features, NO_NOISE)
            check_shape("ae_torch", bottleneck, "codes", code.z.shape[1:], spec.latent_shape, "latent_shape")
            output = model.decoder(code.z, NO_NOISE)
            check_shape("ae_torch", backbone, "images", output.shape[1:], spec.input_shape, "input_shape")
        finally:
            model.train(training)
    _CHECKED.add(spec)


def build(spec: Spec) -> Autoencoder:
    """Return the model of a spec, with the initial weights of seed 0.

    Raises:
        MissingError: nothing is registered for one of its components.
    """
    return Autoencoder(spec).init()
