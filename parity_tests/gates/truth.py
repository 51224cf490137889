"""What both twins share held to the outside: papers' formulas, published numbers, PyTorch, SciPy and scikit-learn.

Initial weights, schedules, the order of images, noise, metrics and samplers come from `ae_core`, or are written alike
in both twins, so that they would agree however wrong they were. Each is compared with something that knows none of it.
"""

import hashlib
import math
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from typing import Any, get_args

import jax
import jax.numpy as jnp
import numpy as np
import torch
from scipy import special, stats
from scipy.spatial import geometric_slerp
from sklearn.decomposition import PCA
from sklearn.manifold import trustworthiness
from sklearn.metrics import mutual_info_score

import ae_core.latent.mixture
import ae_core.latent.samplers
import ae_core.latent.walks
import ae_core.metrics.factors
import ae_core.metrics.knn
import ae_core.metrics.reconstruction
import ae_core.metrics.samples
import ae_core.metrics.variational
import ae_core.noise
import ae_core.training.initial
import ae_core.training.steps
import ae_jax.noise
import ae_torch.noise
from ae_core.spec import Constant, Cosine, GaussianLikelihood, Initializer, Schedule
from ae_core.spec.component import NoiseSite
from ae_core.spec.schedule import Cyclical, Ramp
from parity_tests.cases import CASES
from parity_tests.check import Check, normwise

FORMULA_LIMIT = 1e-10
"""Normwise, of two ways to work out one formula in float64. They differ by rounding: sums of some 10⁴ numbers, ordered
differently, reach √10⁴·2⁻⁵³ = 1e-14 of their scale, and a difference or a root of eigenvalues may lose four digits."""
SEED = 3


def _held(place: str, ours: object, right: object) -> Check:
    a, b = (np.asarray(side, np.float64) for side in (ours, right))
    return Check("truth", place, normwise(a, b), FORMULA_LIMIT)


def check_initial_weights() -> list[Check]:
    """Glorot & Bengio (2010), eq. 16; He et al. (2015), eq. 10; LeCun et al. (1998), eq. 16.

    The numbers are those of NumPy's Philox, keyed as `ae_core.rng` says it is. Biases are 0, weights of norms 1.
    """
    shapes = {"a.weight": (8, 6), "b.weight": (5, 3, 3, 2), "a.bias": (8,), "norm.weight": (4,)}
    checks = []
    for initializer in get_args(Initializer):
        spec = replace(CASES["dense vae"], initializer=initializer)
        tensors = ae_core.training.initial.initial_weights(shapes, spec, SEED)
        for name in ("a.weight", "b.weight"):
            shape = shapes[name]
            fan_in, fan_out = math.prod(shape[1:]), shape[0] * math.prod(shape[2:])
            key = hashlib.sha256(repr((SEED, "init", name)).encode()).digest()[:16]
            rng = np.random.Generator(np.random.Philox(key=int.from_bytes(key, "little")))
            mean_fan = {"glorot": (fan_in + fan_out) / 2, "he": fan_in / 2, "lecun": fan_in}[initializer.split("_")[0]]
            deviation = mean_fan**-0.5
            right = (
                deviation * rng.standard_normal(shape)
                if initializer.endswith("normal")
                else deviation * math.sqrt(12) * (rng.random(shape) - 0.5)
            )
            checks.append(_held(f"{initializer} {name}", tensors[name], right))
        checks.append(_held(f"{initializer} bias", tensors["a.bias"] + 1, np.ones(8)))
        checks.append(_held(f"{initializer} norm", tensors["norm.weight"], np.ones(4)))
    return checks


def check_schedules() -> list[Check]:
    """PyTorch's own schedulers, NumPy's interpolation, and Fu et al. (2019), eq. 6 and 7, in fractions."""
    total, warm = 40, 5
    steps = np.arange(total)
    spec = CASES["dense vae"]

    def ours(schedule: Schedule) -> np.ndarray:
        training = replace(spec.training, schedule=schedule)
        rates = ae_core.training.steps.learning_rates(replace(spec, training=training), steps, total)
        return rates / training.optimizer.learning_rate

    linear = _scheduled(lambda o: torch.optim.lr_scheduler.LinearLR(o, 1 / warm, 1.0, warm - 1), total)
    cosine = _scheduled(
        lambda o: torch.optim.lr_scheduler.CosineAnnealingLR(o, total - warm, eta_min=0.1), total - warm
    )
    length = math.ceil(total / 3)
    saw = [min(Fraction(step % length, length) / Fraction(3, 5), Fraction(1)) for step in range(total)]
    return [
        _held("constant", ours(Constant(warm)), linear),
        _held("cosine", ours(Cosine(warm, 0.1)), [*linear[:warm], *cosine]),
        _held("ramp", ours(Ramp(0.2, 0.9, 13)), np.interp(steps, [0, 13], [0.2, 0.9])),
        _held("cyclical", ours(Cyclical(0.8, 3, 0.6)), [0.8 * float(value) for value in saw]),
    ]


def _scheduled(make: Callable[..., torch.optim.lr_scheduler.LRScheduler], count: int) -> list[float]:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    scheduler, rates = make(optimizer), []
    for _ in range(count):
        rates.append(float(optimizer.param_groups[0]["lr"]))
        optimizer.step()
        scheduler.step()
    return rates


FIXED_POINTS = 12.0
"""Places at which two random orders of many things agree are as good as a draw of Poisson's with mean 1: more than 12
come once in 10¹⁰ times."""


def check_data_order() -> list[Check]:
    """Each image once an epoch, and epochs in orders that have no more to do with each other than chance."""
    count = 20_000
    spec = replace(CASES["dense vae"], training=replace(CASES["dense vae"].training, batch_size=64))
    number = -(-count // 64)
    orders, checks = [np.arange(count)], []
    for epoch in range(3):
        made = ae_core.training.steps.make_steps(spec, count, SEED, epoch, 0, number)
        batches = zip(made.indices, made.sizes, strict=True)
        orders.append(np.concatenate([row[:size] for row, size in batches]))
        visits = np.bincount(orders[-1], minlength=count)
        missed = float((visits != 1).sum() + abs(len(orders[-1]) - count))
        checks.append(Check("truth", f"images of epoch {epoch + 1} not seen once", missed, 0.5))
    for i, one in enumerate(orders):
        for j, other in enumerate(orders[:i]):
            same = float((one == other).sum()) if len(one) == len(other) else float("inf")
            checks.append(Check("truth", f"places alike in orders {j} and {i}", same, FIXED_POINTS))
    return checks


KNOWN_WORDS = (
    ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
    (
        (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
        (0xA4093822, 0x299F31D0),
        (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
    ),
)
"""Counter, key and words of Philox4x32-10, from the file kat_vectors of the authors' library Random123."""


def check_noise() -> list[Check]:
    """Words that the authors of Philox publish; Box & Muller (1958) as a complex number √(−2·ln u)·exp(2πi·v)."""
    checks = []
    for i, (counter, key, words) in enumerate(KNOWN_WORDS):
        for name, found in _words(counter, key).items():
            checks.append(_held(f"{name}, published words {i + 1}", found, words))
    chosen, shape = (5, 7), (6, 8)
    draws = {kind: _draws(NoiseSite(shape, kind), chosen) for kind in ("uniform", "normal")}
    for name in draws["normal"]:
        u, v = draws["uniform"][name].reshape(4, 2, -1).swapaxes(0, 1)
        right = np.sqrt(-2 * np.log(u)) * np.exp(2j * np.pi * v)
        z = draws["normal"][name].reshape(4, 2, -1)
        checks.append(_held(f"{name}, normal numbers", z, np.stack([right.real, right.imag], 1)))
    return checks


def _words(counter: tuple[int, ...], key: tuple[int, int]) -> dict[str, list[int]]:
    unsigned = tuple(np.array([word], np.uint64) for word in counter)
    found: dict[str, Any] = {
        "NumPy": ae_core.noise.philox(unsigned, key),
        "JAX": ae_jax.noise.philox(tuple(jnp.asarray(word, jnp.uint32) for word in unsigned), key),
        "PyTorch": ae_torch.noise.philox(tuple(torch.from_numpy(word.astype(np.int64)) for word in unsigned), key),
    }
    return {name: [int(word[0]) % 2**32 for word in words] for name, words in found.items()}


def _draws(site: NoiseSite, key: tuple[int, int]) -> dict[str, np.ndarray]:
    with jax.enable_x64(True):
        ours = np.asarray(ae_jax.noise.draw(site, jnp.asarray(key, jnp.uint32), 2, 4, 0, "float64"))
    theirs = ae_torch.noise.draw(site, key, 2, 4, 0, dtype=torch.float64).numpy()
    return {"NumPy": ae_core.noise.draw(site, key, 2, 4), "JAX": ours, "PyTorch": theirs}


def check_variational_metrics() -> list[Check]:
    """PyTorch's divergence of two normal distributions, SciPy's normal density, PyTorch's cross-entropy."""
    rng = np.random.default_rng(SEED)
    mean, logvar = rng.standard_normal((50, 4)), rng.standard_normal((50, 4))
    images, decoded = rng.random((20, 5, 4, 2)), rng.uniform(0.01, 0.99, (20, 5, 4, 2))
    posterior = torch.distributions.Normal(torch.from_numpy(mean), torch.from_numpy(np.exp(logvar / 2)))
    prior = torch.distributions.Normal(torch.zeros(4).double(), torch.ones(4).double())
    divergence = torch.distributions.kl_divergence(posterior, prior)
    metrics = ae_core.metrics.variational
    density = stats.norm.logpdf(images, decoded, math.sqrt(0.3)).sum((1, 2, 3))
    entropy = torch.nn.functional.binary_cross_entropy(
        torch.from_numpy(decoded), torch.from_numpy(images), reduction="none"
    )
    log_probability = ae_core.metrics.reconstruction.log_probability
    return [
        _held("KL", metrics.kl_divergence(mean, logvar), divergence),
        _held("KL of each dimension", metrics.kl_per_dimension(mean, logvar), divergence.mean(0)),
        _held("normal density", log_probability(GaussianLikelihood(0.3), images, decoded), density),
        _held("cross-entropy", ae_core.metrics.reconstruction.bce(images, decoded), entropy.sum((1, 2, 3))),
        _held("active units", metrics.active_units(mean * [1, 1, 0.01, 0]), [1, 1, 0, 0]),
    ]


def check_principal_axes() -> list[Check]:
    """scikit-learn's PCA with its full solver, with fewer images than pixels and with more."""
    rng = np.random.default_rng(SEED)
    checks = []
    for count in (20, 200):
        train, heldout = (rng.random((n, 6, 5, 1)) for n in (count, 30))
        fitted = PCA(3, svd_solver="full").fit(train.reshape(count, -1))
        rows = heldout.reshape(30, -1)
        right = ((rows - fitted.inverse_transform(fitted.transform(rows))) ** 2).mean()
        measured = ae_core.metrics.reconstruction.pca_mse(train, heldout, 3)
        checks.append(_held(f"{count} images", [measured], [right]))
    return checks


def check_neighbours() -> list[Check]:
    """scikit-learn's trustworthiness."""
    rng = np.random.default_rng(SEED)
    images = rng.random((80, 4, 3, 1))
    codes = images.reshape(80, -1)[:, :2] + 0.3 * rng.standard_normal((80, 2))
    right = trustworthiness(images.reshape(80, -1), codes, n_neighbors=7)
    return [_held("trustworthiness", [ae_core.metrics.knn.trustworthiness(images, codes, 7)], [right])]


def check_information() -> list[Check]:
    """Chen et al. (2018), eq. 6, from scikit-learn's mutual information of NumPy's 20 bins."""
    rng = np.random.default_rng(SEED)
    factors = rng.random((500, 2))
    codes = np.stack([factors[:, 0] + 0.1 * rng.random(500), factors.sum(1), rng.random(500)], 1)

    def binned(values: np.ndarray) -> np.ndarray:
        return np.clip(np.digitize(values, np.histogram_bin_edges(values, 20)) - 1, 0, 19)

    z, v = ([binned(column) for column in side.T] for side in (codes, factors))
    right = []
    for factor in v:
        told = sorted(mutual_info_score(factor, code) for code in z)
        right.append((told[-1] - told[-2]) / mutual_info_score(factor, factor))
    return [_held("gap", ae_core.metrics.factors.mig(codes, factors), right)]


def check_energy_distance() -> list[Check]:
    """SciPy's, of numbers on a line; it returns the root."""
    rng = np.random.default_rng(SEED)
    a, b = rng.standard_normal((60, 1)), 0.4 + rng.standard_normal((45, 1))
    right = stats.energy_distance(a[:, 0], b[:, 0]) ** 2
    return [_held("on a line", [ae_core.metrics.samples.energy_distance(a, b)], [right])]


def check_fitted_samplers() -> list[Check]:
    """NumPy's covariance, and a mixture's density by SciPy's multivariate normal."""
    rng = np.random.default_rng(SEED)
    codes = rng.standard_normal((300, 3)) @ rng.standard_normal((3, 3)) + [1, 2, 3]
    gaussian = ae_core.latent.samplers.fit_gaussian(codes)
    weights = np.array([0.2, 0.7, 0.1])
    means, roots = rng.standard_normal((3, 3)), rng.standard_normal((3, 3, 3))
    mixture = ae_core.latent.mixture.Mixture(weights, means, roots @ roots.swapaxes(1, 2) + np.eye(3))
    parts = [stats.multivariate_normal(m, c).logpdf(codes) for m, c in zip(means, mixture.covariances, strict=True)]
    return [
        _held("mean", gaussian.mean, codes.mean(0)),
        _held("covariance", gaussian.factor @ gaussian.factor.T, np.cov(codes.T, bias=True)),
        _held("mixture", mixture.log_density(codes), special.logsumexp(np.stack(parts), 0, b=weights[:, None])),
    ]


def check_walks() -> list[Check]:
    """SciPy's turn about the origin, and NumPy's line."""
    rng = np.random.default_rng(SEED)
    a, b = rng.standard_normal((2, 5))
    a, b = a / np.linalg.norm(a), b / np.linalg.norm(b)
    return [
        _held("turn", ae_core.latent.walks.spherical(a, b, 9), geometric_slerp(a, b, np.linspace(0, 1, 9))),
        _held("line", ae_core.latent.walks.straight(a, b, 9), np.linspace(a, b, 9)),
    ]


TRUTHS: dict[str, Callable[[], list[Check]]] = {
    "initial weights": check_initial_weights,
    "schedules": check_schedules,
    "data order": check_data_order,
    "noise": check_noise,
    "variational metrics": check_variational_metrics,
    "principal axes": check_principal_axes,
    "neighbours": check_neighbours,
    "information": check_information,
    "energy distance": check_energy_distance,
    "fitted samplers": check_fitted_samplers,
    "walks": check_walks,
}
"""Every comparison with the outside, by name."""
