"""The wardrobe gate: what is measured, shown and drawn of a latent space is the same on both twins, in float64."""

from collections.abc import Callable
from contextlib import suppress

import numpy as np

import ae_jax.engine
import ae_torch.engine
from ae_core import latent
from ae_core.data import Dataset
from ae_core.figures.latent import decoded_map
from ae_core.latent.codes import VectorCodes
from ae_core.metrics.evaluation import evaluate
from ae_core.spec import Spec
from ae_core.training.engine import Inference
from parity_tests.check import IDENTITY_LIMIT, Check, compare
from parity_tests.gates.identity import weights_of, with_precision

MAP_SIZE, STEPS, DRAWS = 5, 5, 9
"""Images along the side of a map, images of a walk, and draws of each sampler."""
COMPONENTS = 4
QUANTILE = 0.9
"""Of known images' scores, beyond which one is an outlier."""

Arrays = dict[str, np.ndarray]


def check_wardrobe(spec: Spec, data: Dataset, seed: int) -> list[Check]:
    """Compare codes, maps, walks, attributes, samples of prior and box, and outlier scores, at the same weights.

    All are smooth in the codes, so that it holds on any data. What few images, or images that are all the same, do not
    allow is left out; left out on one side alone it is a difference.
    """
    return _compared("wardrobe", _shown, spec, data, seed)


def check_metrics(spec: Spec, data: Dataset, seed: int) -> list[Check]:
    """Compare all metrics, and samples of the densities that are fitted to codes, at the same weights.

    Neighbours, and the codes from which a mixture's fit begins, are choices; the root of a covariance is steep where it
    is singular. So it holds where no choice is as good as tied, and there are more images than latent numbers.
    """
    return _compared("metric", _measured, spec, data, seed)


def _compared(
    name: str, ask: Callable[[Inference, Spec, Dataset, int], Arrays], spec: Spec, data: Dataset, seed: int
) -> list[Check]:
    spec = with_precision(spec, "float64")
    tensors = weights_of(spec, seed)
    engines = ae_jax.engine.ENGINE, ae_torch.engine.ENGINE
    ours, theirs = (ask(engine.infer(spec, tensors), spec, data, seed) for engine in engines)
    return compare(name, ours, theirs, IDENTITY_LIMIT, "float64")


def _shown(model: Inference, spec: Spec, data: Dataset, seed: int) -> Arrays:
    model = VectorCodes(model, spec)
    codes = model.encode(data.images)
    wide = codes.shape[1]
    found: Arrays = {"codes": codes, "map": decoded_map(model.decode, *latent.data_grid(codes, MAP_SIZE)).images}
    ends = np.stack([codes.min(0), codes.max(0)], 1).astype(np.float64)
    bright = data.images.mean((1, 2, 3))
    spots: dict[str, Callable[[], np.ndarray]] = {
        "straight walk": lambda: latent.straight(codes[0], codes[-1], STEPS),
        "spherical walk": lambda: latent.spherical(codes[0], codes[-1], STEPS),
        "traversal": lambda: latent.traversal(codes[0], ends, list(range(wide))).reshape(-1, wide),
        "attribute": lambda: codes[:STEPS] + latent.attribute_vector(codes, bright > np.median(bright)),
        "samples of the box": lambda: latent.fit_box(codes).draw(DRAWS, seed),
    }
    if spec.bottleneck.has_posterior:
        found["posterior mean"], found["posterior logvar"] = model.posterior(data.images)
    prior = spec.bottleneck.prior(wide)
    if prior is not None:
        spots["samples of the prior"] = lambda: prior.draw(DRAWS, seed)
    for name, place in spots.items():
        with suppress(ValueError):  # its one line says what the codes do not allow
            found[name] = model.decode(place())
    with suppress(ValueError):
        detector = latent.fit_detector(model.encode, model.decode, data.images, QUANTILE)
        scores = detector.scores(model.encode, model.decode, 1 - data.images)
        found |= {f"outlier {name}": value for name, value in scores._asdict().items()}
    # seen from where no code is: a distance of 0 is all rounding
    found["distances of neighbours"] = latent.neighbours(codes.min(0) - 1, codes, STEPS)[1]
    return found


def _measured(model: Inference, spec: Spec, data: Dataset, seed: int) -> Arrays:
    metrics = evaluate(model, spec, data, seed).metrics
    found = {name: np.array([metric.value, *metric.parts.values()]) for name, metric in metrics.items()}
    model = VectorCodes(model, spec)
    codes = model.encode(data.images)
    fitted: dict[str, latent.Sampler] = {
        "gaussian": latent.fit_gaussian(codes),
        "mixture": latent.fit_mixture(codes, COMPONENTS, seed),
    }
    return found | {f"samples of the {name}": model.decode(made.draw(DRAWS, seed)) for name, made in fitted.items()}
