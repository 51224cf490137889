"""The autoencoder: encode, decode, reconstruct and loss as pure functions over a plain nested dict of arrays."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import jax
import numpy as np
from flax import linen as nn
from jaxtyping import Array, Float

from ae_core.spec import ConvBackbone, DenseBackbone, Spec
from ae_core.training.initial import initial_weights
from ae_jax.model.bottleneck import Code
from ae_jax.model.conv import ConvDecoder, ConvEncoder
from ae_jax.model.convolution import plain_convolutions
from ae_jax.model.dense import DenseDecoder, DenseEncoder
from ae_jax.model.layers import SampleWeight
from ae_jax.model.likelihood import make_likelihood
from ae_jax.tensors import from_tensors, tensor_shapes

Variables = dict[str, Any]
"""``{"params": …, "batch_stats": …}``, each a nested dict of arrays; without batch norm the second is empty."""

PRODUCT_PRECISION = "highest"
"""Of float32 products on every platform: full float32, where JAX by itself would take TF32."""


class Loss(NamedTuple):
    """A loss and its unweighted terms, each the mean over the batch."""

    total: Float[Array, ""]
    terms: dict[str, Float[Array, ""]]
    batch_stats: dict[str, Any]
    """The running statistics after this batch."""


class _Module(nn.Module):
    """Encoder and decoder of a spec."""

    spec: Spec

    def setup(self) -> None:
        self.encoder: DenseEncoder | ConvEncoder
        self.decoder: DenseDecoder | ConvDecoder
        match self.spec.backbone:
            case DenseBackbone() as backbone:
                self.encoder = DenseEncoder(self.spec, backbone)
                self.decoder = DenseDecoder(self.spec, backbone)
            case ConvBackbone() as backbone:
                self.encoder = ConvEncoder(self.spec, backbone)
                self.decoder = ConvDecoder(self.spec, backbone)

    def __call__(
        self,
        x: Float[Array, "B H W C"],
        noise: Float[Array, "B L"] | None = None,
        weight: SampleWeight | None = None,
    ) -> tuple[Code, Float[Array, "B H W C"]]:
        code = self.encoder(x, noise, weight)
        return code, self.decoder(code.z, weight)


@dataclass(frozen=True)
class Autoencoder:
    """Pure functions of one spec. All take the variables first, and may be jitted, mapped and differentiated.

    Products of float32 numbers are computed in full float32 on every platform, never in TF32.
    """

    spec: Spec
    plain_convolutions: bool = False
    """Whether convolutions are JAX's own on a CPU too: slow there, but differentiable in forward mode."""

    @cached_property
    def _module(self) -> _Module:
        """The Linen module within."""
        return _Module(self.spec)

    @cached_property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Names and shapes of all tensors of the weights file, in PyTorch's layout."""
        images = jax.ShapeDtypeStruct((1, *self.spec.input_shape), np.float32)
        return tensor_shapes(jax.eval_shape(self._module.init, jax.random.key(0), images))

    def init(self, seed: int = 0) -> Variables:
        """Return initial variables; the PyTorch twin's are the same numbers."""
        return from_tensors(initial_weights(self.shapes, self.spec.initializer, seed), self.spec.training.precision)

    def encode(
        self, variables: Variables, x: Float[Array, "B H W C"], noise: Float[Array, "B L"] | None = None
    ) -> Code:
        """Return the code of images; without noise, a Gaussian code's z is its mean."""
        return self._apply(variables, lambda module: module.encoder(x, noise))

    def decode(self, variables: Variables, z: Float[Array, "B L"]) -> Float[Array, "B H W C"]:
        """Return the image that each code stands for: probabilities or means."""
        return make_likelihood(self.spec.likelihood).mean(self._apply(variables, lambda module: module.decoder(z)))

    def reconstruct(self, variables: Variables, x: Float[Array, "B H W C"]) -> Float[Array, "B H W C"]:
        """Return ``decode(encode(x).z)``."""
        return self.decode(variables, self.encode(variables, x).z)

    def loss(
        self,
        variables: Variables,
        x: Float[Array, "B H W C"],
        noise: Float[Array, "B L"] | None = None,
        weight: SampleWeight | None = None,
        train: bool = True,
        total: Float[Array, ""] | None = None,
    ) -> Loss:
        """Return the training loss, averaged over the batch.

        Args:
            variables: parameters and running statistics.
            x: images in [0, 1].
            noise: standard normal numbers for a Gaussian bottleneck; without them z is the mean.
            weight: weight of each sample in the mean and in batch statistics; 1 for all when absent.
            train: normalise with the batch's statistics and update the running ones.
            total: sum of the weights by which the loss is divided, where the images are only a part of a batch; that
                of these images when absent.
        """
        weight = jax.numpy.ones(x.shape[0], x.dtype) if weight is None else weight
        total = weight.sum() if total is None else total
        forward = lambda module: module(x, noise, weight if train else None)  # noqa: E731
        with jax.default_matmul_precision(PRODUCT_PRECISION), plain_convolutions(self.plain_convolutions):
            (code, output), updated = self._module.apply(variables, method=forward, mutable=["batch_stats"])
            values = make_likelihood(self.spec.likelihood).negative_log_likelihood(output, x)
        weighted = {"reconstruction": (self.spec.likelihood.weight, values), **code.penalties(self.spec.bottleneck)}
        terms = {name: (values * weight).sum() / total for name, (_, values) in weighted.items()}
        loss = sum(factor * terms[name] for name, (factor, _) in weighted.items())
        return Loss(loss, terms, updated.get("batch_stats", {}))

    def _apply(self, variables: Variables, function: Any) -> Any:
        with jax.default_matmul_precision(PRODUCT_PRECISION), plain_convolutions(self.plain_convolutions):
            return self._module.apply(variables, method=function)


def build(spec: Spec, plain_convolutions: bool = False) -> Autoencoder:
    """Return the model of a spec."""
    return Autoencoder(spec, plain_convolutions)
