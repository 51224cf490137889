"""Bottlenecks: from the encoder's features to a code."""

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from ae_core.spec.component import MAX_CHANNELS, Component, NoiseSite, check, check_integers
from ae_core.spec.schedule import Schedule

if TYPE_CHECKING:
    from ae_core.latent.samplers import Sampler
    from ae_core.spec.model import Spec


class Bottleneck(Component):
    """What a code is, and what it costs."""

    family: ClassVar[str] = "bottleneck"

    @abstractmethod
    def latent_shape(self, features: tuple[int, ...]) -> tuple[int, ...]:
        """Return the shape of a code, ``(L,)`` or a map ``(h, w, c)``, for features of that shape."""
        raise NotImplementedError

    @property
    def has_posterior(self) -> bool:
        """Whether a code is a distribution, N(mean, exp(logvar)): its twins' codes then have these two fields."""
        return False

    @property
    def has_rates(self) -> bool:
        """Whether the numbers of a code are rates in (0, 1): its twins' codes then have their ``logits`` too."""
        return False

    def prior(self, latent_size: int) -> "Sampler | None":
        """Return the density that codes are drawn to in training, None where there is none."""
        return None

    @property
    def is_smooth(self) -> bool:
        """Whether no slope jumps on the way from features to code."""
        return False


@dataclass(frozen=True)
class PlainBottleneck(Bottleneck):
    """A deterministic code: z is a linear function of the encoder's features."""

    kind: ClassVar[str] = "plain"
    latent: int
    """Number of latent dimensions."""

    def __post_init__(self) -> None:
        check_integers("latent", (self.latent,), 1, MAX_CHANNELS)

    def latent_shape(self, features: tuple[int, ...]) -> tuple[int, ...]:
        """Return one axis."""
        return (self.latent,)

    @property
    def is_smooth(self) -> bool:
        """True: it is linear."""
        return True


@dataclass(frozen=True)
class GaussianBottleneck(Bottleneck):
    """A variational code (Kingma & Welling, 2014): z ~ N(mean, exp(logvar)), prior N(0, I)."""

    kind: ClassVar[str] = "gaussian"
    loss_only: ClassVar[tuple[str, ...]] = ("kl_weight", "capacity")
    latent: int
    """Number of latent dimensions."""
    kl_weight: float | Schedule = 1.0
    """Weight of KL(q(z|x) ‖ p(z)), summed over latent dimensions and averaged over the batch (β of a β-VAE): a number,
    or a schedule of the step, such as a warm-up."""
    capacity: float | Schedule | None = None
    """With it the loss has kl_weight·|KL − capacity| of each image, in nats, in place of kl_weight·KL (Burgess et al.,
    2018, eq. 8): a number, or a schedule such as a ramp."""

    def __post_init__(self) -> None:
        check_integers("latent", (self.latent,), 1, MAX_CHANNELS)
        if isinstance(self.kl_weight, float | int):
            check(self.kl_weight >= 0, "kl_weight", self.kl_weight, "a number of at least 0")
        if isinstance(self.capacity, float | int):
            check(self.capacity >= 0, "capacity", self.capacity, "a number of at least 0, or null")

    def latent_shape(self, features: tuple[int, ...]) -> tuple[int, ...]:
        """Return one axis."""
        return (self.latent,)

    @property
    def has_posterior(self) -> bool:
        """True."""
        return True

    def prior(self, latent_size: int) -> "Sampler":
        """Return N(0, I)."""
        from ae_core.latent.samplers import Prior

        return Prior(latent_size)

    @property
    def is_smooth(self) -> bool:
        """True: mean and logvar are linear."""
        return True

    @property
    def coefficients(self) -> Mapping[str, float | Schedule]:
        """Return the weight of the KL term, or of its distance from the capacity, and the capacity."""
        if self.capacity is None:
            return {"kl": self.kl_weight}
        return {"capacity": self.kl_weight, "nats": self.capacity}

    def noise_sites(self, spec: "Spec") -> Mapping[str, NoiseSite]:
        """Return one standard normal number for each latent dimension, at ``bottleneck``."""
        return {"bottleneck": NoiseSite((self.latent,), "normal")}


@dataclass(frozen=True)
class TopKBottleneck(Bottleneck):
    """A sparse code: of a linear function of the features the k largest numbers are kept, all others are 0.

    Of equal numbers the one with the lower index is larger. Source: Makhzani & Frey (2014), "k-sparse autoencoders",
    algorithm 1.
    """

    kind: ClassVar[str] = "topk"
    latent: int
    """Number of latent dimensions."""
    k: int
    """How many of them are kept for each image."""

    def __post_init__(self) -> None:
        check_integers("latent", (self.latent,), 1, MAX_CHANNELS)
        check_integers("k", (self.k,), 1, self.latent)

    def latent_shape(self, features: tuple[int, ...]) -> tuple[int, ...]:
        """Return one axis."""
        return (self.latent,)


@dataclass(frozen=True)
class SigmoidBottleneck(Bottleneck):
    """A code of rates: z = 1/(1 + exp(−l)) in (0, 1), with logits l that are a linear function of the features.

    With no hidden layer around it, it is the sparse autoencoder's one layer of sigmoid units.
    Source: Ng (2011), "Sparse autoencoder", CS294A lecture notes, section 3.
    """

    kind: ClassVar[str] = "sigmoid"
    latent: int
    """Number of latent dimensions."""

    def __post_init__(self) -> None:
        check_integers("latent", (self.latent,), 1, MAX_CHANNELS)

    def latent_shape(self, features: tuple[int, ...]) -> tuple[int, ...]:
        """Return one axis."""
        return (self.latent,)

    @property
    def has_rates(self) -> bool:
        """True."""
        return True

    @property
    def is_smooth(self) -> bool:
        """True: of the sigmoid."""
        return True
