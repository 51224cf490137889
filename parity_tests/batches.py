"""One batch of a training, for gates that look at a single pass."""

from collections.abc import Mapping

import numpy as np
from jaxtyping import Float

from ae_core.data import steps_per_epoch
from ae_core.noise import draw, key
from ae_core.spec import Spec
from ae_core.training.engine import Steps
from ae_core.training.steps import make_steps

Images = Float[np.ndarray, "N H W C"]
Batch = Float[np.ndarray, "B H W C"]
Noise = Mapping[str, Float[np.ndarray, "B ..."]]
"""By site."""


def noise_of(spec: Spec, seed: int, step: int, rows: int) -> dict[str, np.ndarray]:
    """Return the noise of one step by site, [B, *shape], by the reference in NumPy."""
    return {name: draw(site, key(seed, name), step, rows) for name, site in spec.noise_sites.items()}


def first_batch(spec: Spec, images: Images, seed: int) -> tuple[Batch, dict[str, np.ndarray]]:
    """Return images and noise of a training's first step."""
    steps = make_steps(spec, len(images), seed, 0, 0, 1)
    size = int(steps.sizes[0])
    return images[steps.indices[0, :size]], noise_of(spec, seed, 0, size)


def one_step(spec: Spec, count: int, seed: int, step: int) -> Steps:
    """Return one step of a training, counted from its start."""
    epoch, first = divmod(step, steps_per_epoch(count, spec.training.batch_size))
    return make_steps(spec, count, seed, epoch, first, 1)
