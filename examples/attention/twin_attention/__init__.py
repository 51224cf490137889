"""A backbone of attention over patches, brought from outside: what it is, with NumPy at most.

Its halves are `twin_attention.jax` and `twin_attention.torch`; importing one registers it with that twin's doors.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

from ae_core.spec import (
    Adam,
    Backbone,
    BernoulliLikelihood,
    Cosine,
    Initial,
    PlainBottleneck,
    Spec,
    Training,
    check,
    check_integers,
    check_name,
)
from ae_core.spec.presets import register_preset

Gelu = Literal["gelu_erf", "gelu_tanh"]
Pool = Literal["mean", "flatten"]


@dataclass(frozen=True)
class AttentionBackbone(Backbone):
    """Transformer blocks over the patches of an image, which are cut without overlap and embedded linearly.

    Source: Dosovitskiy et al. (2021), with the blocks of Xiong et al. (2020): normalisation comes first.
    """

    kind: ClassVar[str] = "attention"
    patch: int
    """Side of a patch, in pixels; divides both sides of an image."""
    width: int
    """Numbers in a token."""
    depth: int
    """Transformer blocks in the encoder, and as many in the decoder."""
    heads: int
    """Attention heads of a block; divides the width."""
    mlp_width: int
    """Width of the hidden layer of a block's MLP."""
    activation: Gelu = "gelu_tanh"
    """Of the MLP's hidden layer: gelu_erf is exact, gelu_tanh the approximation."""
    eps: float = 1e-6
    """Of every layer normalisation, added to the variance under the root."""
    pool: Pool = "mean"
    """What becomes of the last tokens: their mean, or all of them in a row."""
    position_std: float = 0.02
    """Standard deviation of the learned positions at the start."""

    def __post_init__(self) -> None:
        for name, most in (
            ("patch", 2**10),
            ("width", 2**16),
            ("depth", 2**10),
            ("heads", 2**16),
            ("mlp_width", 2**20),
        ):
            check_integers(name, (getattr(self, name),), 1, most)
        check(self.width % self.heads == 0, "heads", self.heads, f"a divisor of the width {self.width}")
        check_name("activation", self.activation, Gelu)
        check(self.eps > 0, "eps", self.eps, "a number above 0")
        check_name("pool", self.pool, Pool)
        check(self.position_std > 0, "position_std", self.position_std, "a number above 0")

    def check_images(self, input_shape: tuple[int, int, int]) -> None:
        """Refuse sides that the patch does not divide."""
        height, width, _ = input_shape
        fits = height % self.patch == width % self.patch == 0
        check(fits, "backbone.patch", self.patch, f"a divisor of both sides of the {height}×{width} pixels")

    def feature_shape(self, input_shape: tuple[int, int, int]) -> tuple[int, ...]:
        """Return one axis: a token, or all of them."""
        return (self.width * (1 if self.pool == "mean" else self.tokens(input_shape)),)

    def tokens(self, input_shape: tuple[int, int, int]) -> int:
        """Return the number of patches of an image [H, W, C]."""
        height, width, _ = input_shape
        return (height // self.patch) * (width // self.patch)

    @property
    def is_smooth(self) -> bool:
        """True: neither GELU, nor softmax, nor layer normalisation with its eps has a kink."""
        return True

    @property
    def initial_values(self) -> Mapping[str, Initial]:
        """Return where positions start, which the shape alone would take for a kernel."""
        return {"positions.weight": self.position_std}


register_preset(
    "attention-digits",
    Spec(
        input_shape=(8, 8, 1),
        backbone=AttentionBackbone(patch=2, width=32, depth=2, heads=4, mlp_width=64),
        bottleneck=PlainBottleneck(latent=8),
        likelihood=BernoulliLikelihood(reduction="sum"),
        training=Training(Adam(learning_rate=2e-3), Cosine(warmup_steps=50), batch_size=64, epochs=30),
    ),
)
