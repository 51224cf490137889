"""The autoencoder: encode, decode, reconstruct and loss as methods of an ordinary module."""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ae_core.spec import ConvBackbone, DenseBackbone, Spec
from ae_core.training.initial import initial_weights
from ae_torch.model.bottleneck import Code
from ae_torch.model.conv import ConvDecoder, ConvEncoder
from ae_torch.model.dense import DenseDecoder, DenseEncoder
from ae_torch.model.likelihood import make_likelihood
from ae_torch.tensors import from_tensors, tensor_shapes


class Loss(NamedTuple):
    """A loss and its unweighted terms, each the mean over the batch."""

    total: Float[Tensor, ""]
    terms: dict[str, Float[Tensor, ""]]


class Autoencoder(nn.Module):
    """Encoder and decoder of a spec. In training mode, batch norm uses and updates the batch's statistics."""

    def __init__(self, spec: Spec) -> None:
        super().__init__()
        self.spec = spec
        self.encoder: DenseEncoder | ConvEncoder
        self.decoder: DenseDecoder | ConvDecoder
        match spec.backbone:
            case DenseBackbone() as backbone:
                self.encoder = DenseEncoder(spec, backbone)
                self.decoder = DenseDecoder(spec, backbone)
            case ConvBackbone() as backbone:
                self.encoder = ConvEncoder(spec, backbone)
                self.decoder = ConvDecoder(spec, backbone)
        self.to(getattr(torch, spec.training.precision))
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # PyTorch's stubs lack it

    def forward(
        self, x: Float[Tensor, "B H W C"], noise: Float[Tensor, "B L"] | None = None
    ) -> tuple[Code, Float[Tensor, "B H W C"]]:
        code = self.encoder(x, noise)
        return code, self.decoder(code.z)

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Names and shapes of all tensors of the weights file."""
        return tensor_shapes(self)

    def init(self, seed: int = 0) -> "Autoencoder":
        """Set the initial weights and return the model; the JAX twin's are the same numbers."""
        return from_tensors(self, initial_weights(self.shapes, self.spec.initializer, seed))

    def encode(self, x: Float[Tensor, "B H W C"], noise: Float[Tensor, "B L"] | None = None) -> Code:
        """Return the code of images; without noise, a Gaussian code's z is its mean."""
        return self.encoder(x, noise)

    def decode(self, z: Float[Tensor, "B L"]) -> Float[Tensor, "B H W C"]:
        """Return the image that each code stands for: probabilities or means."""
        return make_likelihood(self.spec.likelihood).mean(self.decoder(z))

    def reconstruct(self, x: Float[Tensor, "B H W C"]) -> Float[Tensor, "B H W C"]:
        """Return ``decode(encode(x).z)``."""
        return self.decode(self.encode(x).z)

    def loss(self, x: Float[Tensor, "B H W C"], noise: Float[Tensor, "B L"] | None = None) -> Loss:
        """Return the training loss, averaged over the batch.

        Args:
            x: images in [0, 1].
            noise: standard normal numbers for a Gaussian bottleneck; without them z is the mean.
        """
        code, output = self(x, noise)
        values = make_likelihood(self.spec.likelihood).negative_log_likelihood(output, x)
        weighted = {"reconstruction": (self.spec.likelihood.weight, values), **code.penalties(self.spec.bottleneck)}
        terms = {name: values.mean() for name, (_, values) in weighted.items()}
        total = torch.stack([factor * terms[name] for name, (factor, _) in weighted.items()]).sum()
        return Loss(total, terms)


def build(spec: Spec) -> Autoencoder:
    """Return the model of a spec, with the initial weights of seed 0."""
    return Autoencoder(spec).init()
