"""How the work on a batch is divided: over devices, and on each device into parts that fit a cache."""

from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import jax
import numpy as np

from ae_core.errors import SpecError
from ae_core.spec import Spec
from ae_jax.execution.counts import count

CACHE_BYTES = 5 * 2**19
"""On a CPU a part's activations take about so many bytes: a few times a core's second-level cache, since the layers
before and after the present one may lie further away. Halving or doubling it costs foster-ae up to a tenth."""

LEAST_PART = 8
"""No part is cut smaller than this, for the products would become too thin."""

LEAST_REUSE = 512
"""On a CPU a further core pays from so many multiplications by each weight, on each core, at a step: the gradient of
every weight has to be added up over the cores. A convolution reuses its weights at every position, so a few images do;
a dense layer does not, and XLA divides its products over the cores by itself."""


@dataclass(frozen=True)
class Plan:
    """How a trainer divides its batches. None leaves a number to the trainer."""

    devices: int | None = None
    """Devices over which a batch is divided; the cores of a CPU are devices where JAX was told so."""
    micro_batch: int | None = None
    """Images that go through the model at once on each device; gradients are summed."""
    plain_convolutions: bool = False
    """Whether convolutions are JAX's own on a CPU too."""


class Division(NamedTuple):
    """A batch, divided: ``devices`` × ``parts`` × ``size`` images, of which the last may be padding."""

    devices: int
    parts: int
    size: int

    @property
    def rows(self) -> int:
        """Images in all, with padding."""
        return self.devices * self.parts * self.size


def divide(spec: Spec, batch: int, plan: Plan | None = None, train: bool = True) -> Division:
    """Return how a batch is divided; what the plan leaves open is chosen for the machine.

    Args:
        spec: the model.
        batch: images in the batch.
        plan: the user's wishes.
        train: whether gradients are wanted, and batch statistics with them.

    Raises:
        SpecError: more devices are wanted than there are, or the loss couples the samples of a batch, so that it is
            not the sum of its parts.
    """
    return _divide(spec, batch, plan or Plan(), train, jax.local_device_count(), jax.default_backend() == "cpu")


@lru_cache(maxsize=256)  # one image's way through a small model takes no longer than these few sums
def _divide(spec: Spec, batch: int, plan: Plan, train: bool, there: int, on_cpu: bool) -> Division:
    for name, value, most in (("devices", plan.devices, there), ("micro_batch", plan.micro_batch, None)):
        if value is not None and not 1 <= value <= (most or value):
            raise SpecError(f"plan.{name}: given {value}; expected at least 1" + (f", at most {most}" if most else ""))
    coupling = [component for component in spec.components if component.couples_samples]
    if train and coupling:
        if (plan.devices or 1) > 1 or (plan.micro_batch or batch) < batch:
            raise SpecError(
                f'plan: the {coupling[0].family} "{coupling[0].kind}" couples the samples of a batch, so it cannot be '
                "divided; expected devices 1 and no micro_batch"
            )
        return Division(1, 1, batch)
    devices = plan.devices or _devices(spec, batch, there, on_cpu)
    share = -(-batch // devices)
    if plan.micro_batch is not None or not on_cpu:
        size = min(plan.micro_batch or share, share)
    else:
        # so few images are not cut, and one image on its way need not wait until its model is traced
        size = share if share <= LEAST_PART else _size(share, _cached(spec))
    return Division(devices, -(-share // size), size)


def _size(share: int, cached: int) -> int:
    """Return the size near ``cached`` whose multiple exceeds the share by the fewest rows."""
    sizes = range(-(-3 * cached // 4), 5 * cached // 4 + 1)
    if share <= sizes[0]:
        return share
    return min(share, min(sizes, key=lambda size: (-(-share // size) * size, abs(size - cached))))


def _devices(spec: Spec, batch: int, there: int, on_cpu: bool) -> int:
    if not on_cpu:
        return max(n for n in range(1, there + 1) if batch % n == 0)
    most = min(there, batch // LEAST_PART)
    if most <= 1:
        return 1  # untraced: one image does not wait for that
    products = count(spec).products
    uses = batch * sum(p.multiplications for p in products) // max(1, sum(p.weights for p in products))
    return max(1, min(most, uses // LEAST_REUSE))


def _cached(spec: Spec) -> int:
    activations = max(1, sum(product.outputs for product in count(spec).products))
    return max(LEAST_PART, CACHE_BYTES // (np.dtype(spec.training.precision).itemsize * activations))
