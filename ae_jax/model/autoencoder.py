"""The autoencoder: encode, decode, reconstruct and loss as pure functions over a plain nested dict of arrays."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, NamedTuple

import jax
import numpy as np
from flax import linen as nn
from jaxtyping import Array, Float

from ae_core.errors import SpecError
from ae_core.spec import Spec
from ae_core.spec.component import check_shape
from ae_core.spec.corruption import SITE
from ae_core.training.initial import check_state, initial_weights
from ae_jax.model.backbone import make_decoder, make_encoder
from ae_jax.model.bottleneck import NO_NOISE, Code, Coefficients, Noise, Term, make_bottleneck
from ae_jax.model.convolution import plain_convolutions
from ae_jax.model.corruption import corrupt
from ae_jax.model.likelihood import make_likelihood
from ae_jax.model.norm import Mask
from ae_jax.model.penalty import Seen, penalty
from ae_jax.tensors import STATE, from_tensors, tensor_shapes

Variables = dict[str, Any]
"""``{"params": …, "state": …}``, nested dicts of arrays; state is what training changes without a gradient."""

PRODUCT_PRECISION = "highest"
"""Of float32 products on every platform: full float32, where JAX by itself would take TF32."""


class Loss(NamedTuple):
    """A loss and its unweighted terms, each the mean over the batch."""

    total: Float[Array, ""]
    terms: dict[str, Float[Array, ""]]
    state: dict[str, Any]
    """The state after this batch."""


class Network(nn.Module):
    """Encoder, bottleneck and decoder of a spec, as a Linen module."""

    spec: Spec

    def setup(self) -> None:
        spec, backbone = self.spec, self.spec.backbone
        self.encoder = make_encoder(backbone, spec)
        features = backbone.feature_shape(spec.input_shape)
        self.bottleneck = make_bottleneck(spec.bottleneck, features, use_bias=not backbone.absorbs_code_bias)
        self.decoder = make_decoder(backbone, spec)

    def encode(self, x: Float[Array, "B H W C"], noise: Noise = NO_NOISE, mask: Mask | None = None) -> Code:
        if self.spec.corruption is not None and SITE in noise:
            x = corrupt(self.spec.corruption, x, noise[SITE])
        spec, backbone = self.spec, self.spec.backbone
        # shapes are known while a function is traced: a compiled one has none of these checks
        features = self.encoder(x, noise, mask)
        expected = backbone.feature_shape(spec.input_shape)
        check_shape("ae_jax", backbone, "features", features.shape[1:], expected, "feature_shape")
        code = self.bottleneck(features, noise, mask)
        check_shape("ae_jax", spec.bottleneck, "codes", code.z.shape[1:], spec.latent_shape, "latent_shape")
        return code

    def __call__(
        self, x: Float[Array, "B H W C"], noise: Noise = NO_NOISE, mask: Mask | None = None
    ) -> tuple[Code, Float[Array, "B H W C"]]:
        code = self.encode(x, noise, mask)
        output = self.decoder(code.z, noise, mask)
        check_shape("ae_jax", self.spec.backbone, "images", output.shape[1:], self.spec.input_shape, "input_shape")
        return code, output


@dataclass(frozen=True)
class Autoencoder:
    """Pure functions of one spec. All take the variables first, and may be jitted, mapped and differentiated.

    Products of float32 numbers are computed in full float32 on every platform, never in TF32.
    """

    spec: Spec
    plain_convolutions: bool = False
    """Whether convolutions are JAX's own on a CPU too: slow there, but differentiable in forward mode."""

    @cached_property
    def network(self) -> Network:
        """The Linen module within."""
        return Network(self.spec)

    @cached_property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Names and shapes of all tensors of the weights file, in PyTorch's layout.

        Raises:
            SpecError: the layers of a component do not fit the spec.
        """
        images = jax.ShapeDtypeStruct((1, *self.spec.input_shape), np.float32)
        variables = jax.eval_shape(self.network.init, jax.random.key(0), images)
        other = sorted(variables.keys() - {"params", STATE})
        if other:
            raise SpecError(
                f'spec: the model has variables in the collection "{other[0]}"; expected params and {STATE}'
            )
        shapes = tensor_shapes(variables)
        check_state(shapes, tensor_shapes({"params": {}, STATE: variables.get(STATE, {})}), self.spec)
        return shapes

    def init(self, seed: int = 0) -> Variables:
        """Return initial variables; the PyTorch twin's are the same numbers."""
        return from_tensors(initial_weights(self.shapes, self.spec, seed), self.spec.training.precision)

    def encode(self, variables: Variables, x: Float[Array, "B H W C"], noise: Noise = NO_NOISE) -> Code:
        """Return the code of images; without noise the images are clean and a posterior's z is its mean."""
        return self.apply(variables, lambda network: network.encode(x, noise))

    def decode(self, variables: Variables, z: Float[Array, "B ..."]) -> Float[Array, "B H W C"]:
        """Return the image that each code, [B, *latent shape], stands for: probabilities or means."""
        return make_likelihood(self.spec.likelihood).mean(
            self.apply(variables, lambda network: network.decoder(z, NO_NOISE))
        )

    def reconstruct(self, variables: Variables, x: Float[Array, "B H W C"]) -> Float[Array, "B H W C"]:
        """Return ``decode(encode(x).z)``."""
        return self.decode(variables, self.encode(variables, x).z)

    def loss(
        self,
        variables: Variables,
        x: Float[Array, "B H W C"],
        noise: Noise = NO_NOISE,
        coefficients: Coefficients | None = None,
        mask: Mask | None = None,
        train: bool = True,
        samples: Float[Array, ""] | None = None,
    ) -> Loss:
        """Return the training loss, averaged over the batch.

        Args:
            variables: parameters and state.
            x: clean images in [0, 1].
            noise: by the name of its site; without any, images are not corrupted and a posterior's z is its mean.
            coefficients: weights of terms and the like, by name; what they come to in the end when absent.
            mask: 1 for each sample, 0 for those that only fill up the batch; 1 for all when absent.
            train: normalise with the batch's statistics and update the state.
            samples: by what the sums over samples are divided, where the images are only a part of a batch; the number
                of these samples when absent.
        """
        mask = jax.numpy.ones(x.shape[0], x.dtype) if mask is None else mask
        own = mask.sum()
        samples = own if samples is None else samples
        coefficients = self.spec.last_coefficients if coefficients is None else coefficients
        forward = lambda network: network(x, noise, mask if train else None)  # noqa: E731
        with jax.default_matmul_precision(PRODUCT_PRECISION), plain_convolutions(self.plain_convolutions):
            (code, output), updated = self.network.apply(variables, method=forward, mutable=[STATE])
            weighted = self._terms(Seen(x, code, output, mask, partial(self.encode, variables)), coefficients)

        def mean(values: Array) -> Array:
            # a number of the whole batch counts for each of its samples
            return (values * mask).sum() / samples if values.ndim else values * (own / samples)

        terms = {name: mean(values) for name, (_, values) in weighted.items()}
        parts = [factor * terms[name] for name, (factor, _) in weighted.items() if factor is not None]
        total = sum(parts[1:], parts[0])
        return Loss(total, terms, updated.get(STATE, {}))

    def _terms(self, seen: Seen, coefficients: Coefficients) -> Mapping[str, Term]:
        spec = self.spec
        values = make_likelihood(spec.likelihood).negative_log_likelihood(seen.output, seen.x)
        terms: dict[str, Term] = {"reconstruction": (coefficients["reconstruction"], values)}
        terms |= seen.code.penalties(spec.bottleneck, coefficients)
        return terms | {part.kind: (coefficients[part.kind], penalty(part, seen)) for part in spec.penalties}

    def apply(self, variables: Variables, function: Callable[[Any], Any]) -> Any:
        """Return what a function of the bound `Network` gives, without changing the state."""
        with jax.default_matmul_precision(PRODUCT_PRECISION), plain_convolutions(self.plain_convolutions):
            return self.network.apply(variables, method=function)


def build(spec: Spec, plain_convolutions: bool = False) -> Autoencoder:
    """Return the model of a spec.

    Raises:
        MissingError: nothing is registered for one of its components, when the model is first used.
    """
    return Autoencoder(spec, plain_convolutions)
