"""All metrics that apply to a model and a data set, and why the others do not."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from ae_core.data import Dataset
from ae_core.errors import DataError, MissingError
from ae_core.latent import Sampler, fit_gaussian, fit_mixture
from ae_core.latent.codes import VectorCodes
from ae_core.metrics.dci import ALPHA, dci
from ae_core.metrics.factors import linear_r2, mig, monotone, sap, smooth_r2
from ae_core.metrics.knn import knn_agreement, trustworthiness
from ae_core.metrics.reconstruction import SSIM_WINDOW, bce, bits_per_dimension, log_probability, mse, psnr, ssim
from ae_core.metrics.samples import energy_distance
from ae_core.metrics.variational import active_units, elbo, importance_weighted, kl_per_dimension
from ae_core.rng import generator
from ae_core.spec import Spec
from ae_core.training.engine import Inference

NEIGHBOURS = 10
"""k of trustworthiness and of the agreement of labels."""

MOST_RANKED = 2000
"""Images that trustworthiness looks at: its time and memory grow with their square."""

MOST_VOTING = 10_000
"""Codes among which the agreement of labels is taken."""

MOST_FITTED = 1000
"""Codes that the smooth regressor is fitted to, and as many that it is judged by."""

MOST_WEIGHED, WEIGHED_SAMPLES = 200, 100
"""Images whose log-likelihood is estimated, and draws for each."""

LEAST_FITTED = 20
"""Images below which nothing is fitted to their codes."""

MOST_LATENTS, MOST_MIXED = 512, 64
"""Latent dimensions beyond which metrics that go through them one by one, or fit a mixture, would take minutes."""

MOST_WALKED, WALK_STEPS = 100, 16
"""Images that walks lead through, one along each factor, and steps of a walk."""

DRAWN, COMPONENTS = 1000, 10
"""Images that are invented, and compared with as many real ones; Gaussians in the mixture."""


class Metric(NamedTuple):
    """One number and what it means."""

    value: float
    unit: str
    range: str
    """From the worst to the best, where there is a best."""
    how: str
    """In a few words: what was taken, of how many."""
    parts: dict[str, float]
    """By factor or latent dimension, where the value is their mean, sum or number."""


class Evaluation(NamedTuple):
    """Metrics by name, and why others are missing."""

    metrics: dict[str, Metric]
    missing: dict[str, str]


def evaluate(model: Inference, spec: Spec, data: Dataset, seed: int = 0) -> Evaluation:
    """Return all metrics that apply to a model and a data set; draws and choices of images are those of ``seed``.

    Raises:
        DataError: the model makes numbers of an image that are not finite.
    """
    result = Evaluation({}, {})
    images = data.images
    model, bottleneck = VectorCodes(model, spec), spec.bottleneck
    codes, logvar = model.posterior(images) if bottleneck.has_posterior else (model.encode(images), None)
    recon = model.decode(codes) if np.isfinite(codes).all() else codes
    if not np.isfinite(recon).all():
        raise DataError(
            "evaluate: the model makes numbers that are not finite of these images; was its training sound?"
        )
    _reconstruction(result, spec, images, recon)
    names = ("elbo", "elbo_bits", "log_likelihood", "log_likelihood_bits", "active_units", "kl")
    if logvar is None:
        _say(result, names, f"the bottleneck is {bottleneck.kind}: a code has no distribution")
    elif (why := _unknown_probability(spec)) is not None:
        _say(result, names[:4], why)
        _latents(result, codes, logvar)
    else:
        _variational(result, spec, model.decode, images, codes, logvar, seed)
    _samples(result, spec, model.decode, images, recon, codes, seed)
    _neighbourhood(result, images, codes, data.labels, seed)
    _known_factors(result, codes, data, seed)
    _walks(result, model.encode, data, seed)
    return result


def _reconstruction(result: Evaluation, spec: Spec, images: np.ndarray, recon: np.ndarray) -> None:
    n, size = len(images), images[0].size
    _put(result, "mse", mse(images, recon), "", "1 to 0", f"{n:,} images")
    _put(result, "psnr", float(psnr(images, recon).mean()), "dB", "0 to ∞", "mean over images, peak 1")
    if min(images.shape[1:3]) < SSIM_WINDOW:
        _say(result, ("ssim",), f"its window of {SSIM_WINDOW}×{SSIM_WINDOW} pixels does not fit the images")
    else:
        _put(result, "ssim", float(ssim(images, recon).mean()), "", "−1 to 1", "mean over images; Wang et al., 2004")
    if spec.likelihood.gives_probabilities:
        nats = float(bce(images, recon).mean())
        _put(result, "bce", nats, "nats", "∞ to 0", "an image, at the code without noise")
        _put(result, "bce_bits", bits_per_dimension(nats, size), "bits/dim", "∞ to 0", f"bce over {size:,} numbers")
    else:
        _say(result, ("bce", "bce_bits"), f"the likelihood is {spec.likelihood.kind}: no pixel is a probability")


def _variational(
    result: Evaluation,
    spec: Spec,
    decode: Callable[[np.ndarray], np.ndarray],
    images: np.ndarray,
    mean: np.ndarray,
    logvar: np.ndarray,
    seed: int,
) -> None:
    size = images[0].size
    low, high = ("−∞ to 0", "∞ to 0") if spec.likelihood.gives_probabilities else ("−∞ to ∞", "∞ to −∞")
    bound = float(elbo(decode, spec.likelihood, images, mean, logvar, seed).mean())
    _put(result, "elbo", bound, "nats", low, "an image, one draw each; Kingma & Welling, 2014")
    _put(result, "elbo_bits", bits_per_dimension(-bound, size), "bits/dim", high, f"−elbo over {size:,} numbers")
    few = _some(len(images), MOST_WEIGHED, seed, "log_likelihood")
    arrays = (images[few], mean[few], logvar[few])
    value = float(importance_weighted(decode, spec.likelihood, *arrays, WEIGHED_SAMPLES, seed).mean())
    how = f"{WEIGHED_SAMPLES} draws for each of {len(few):,} images; Burda et al., 2016"
    _put(result, "log_likelihood", value, "nats", low, how)
    bits = bits_per_dimension(-value, size)
    _put(result, "log_likelihood_bits", bits, "bits/dim", high, f"−log_likelihood over {size:,} numbers")
    _latents(result, mean, logvar)


def _unknown_probability(spec: Spec) -> str | None:
    """Return why log p(x|z) of a likelihood is not known, or None where it is."""
    image = np.zeros((1, *spec.input_shape))
    try:
        log_probability(spec.likelihood, image, image + 0.5)
    except MissingError as error:
        return str(error)
    return None


def _latents(result: Evaluation, mean: np.ndarray, logvar: np.ndarray) -> None:
    active, kl = active_units(mean), kl_per_dimension(mean, logvar)
    names = [f"latent {i + 1}" for i in range(len(kl))]
    parts = dict(zip(names, active.astype(float).tolist(), strict=True))
    _put(result, "active_units", float(active.sum()), "", f"0 to {len(kl)}", "variance of the mean > 0.01", parts)
    parts = dict(zip(names, kl.tolist(), strict=True))
    _put(result, "kl", float(kl.sum()), "nats", "0 to ∞", "an image, sum over latents", parts)


def _samples(
    result: Evaluation,
    spec: Spec,
    decode: Callable[[np.ndarray], np.ndarray],
    images: np.ndarray,
    recon: np.ndarray,
    codes: np.ndarray,
    seed: int,
) -> None:
    names = ("energy_recon", "energy_gaussian", "energy_mixture", "energy_prior")
    order = generator(seed, "evaluate", "samples").permutation(len(codes))
    fitted, unseen = order[: len(order) // 2][: 2 * DRAWN], order[len(order) // 2 :][:DRAWN]
    if len(fitted) < 2 * COMPONENTS:
        return _say(result, names, f"it takes at least {4 * COMPONENTS} images")
    real = images[unseen]

    def put(name: str, invented: np.ndarray, what: str) -> None:
        how = f"{what}, {len(invented):,} against {len(real):,} other images; Székely & Rizzo, 2013"
        _put(result, name, energy_distance(invented, real), "", "∞ to 0", how)

    put(names[0], recon[fitted[:DRAWN]], "reconstructions: what samples can reach")
    samplers: dict[str, tuple[Sampler, str]] = {
        names[1]: (fit_gaussian(codes[fitted]), "a Gaussian fitted to the codes")
    }
    if codes.shape[1] > MOST_MIXED:
        _say(result, names[2:3], f"it takes at most {MOST_MIXED} latent dimensions")
    elif np.ptp(codes[fitted], axis=0).any():
        what = f"a mixture of {COMPONENTS} Gaussians fitted to the codes"
        samplers[names[2]] = fit_mixture(codes[fitted], COMPONENTS, seed), what
    else:
        _say(result, names[2:3], "the codes are all the same")
    prior = spec.bottleneck.prior(codes.shape[1])
    if prior is not None:
        samplers[names[3]] = prior, "the prior"
    else:
        _say(result, names[3:], f"the bottleneck is {spec.bottleneck.kind}: there is no prior")
    for name, (sampler, what) in samplers.items():
        put(name, decode(sampler.draw(DRAWN, seed)), what)
    return None


def _neighbourhood(
    result: Evaluation, images: np.ndarray, codes: np.ndarray, labels: np.ndarray | None, seed: int
) -> None:
    few = _some(len(images), MOST_RANKED, seed, "trustworthiness")
    if len(few) / 2 > NEIGHBOURS:
        how = f"{NEIGHBOURS} neighbours, {len(few):,} images; Venna & Kaski, 2001"
        _put(result, "trustworthiness", trustworthiness(images[few], codes[few], NEIGHBOURS), "", "0 to 1", how)
    else:
        _say(result, ("trustworthiness",), f"it takes more than {2 * NEIGHBOURS} images")
    few = _some(len(images), MOST_VOTING, seed, "knn_agreement")
    if labels is None:
        _say(result, ("knn_agreement",), "the data set has no labels")
    elif len(few) > NEIGHBOURS:
        commonest = np.unique(labels[few], return_counts=True)[1].max() / len(few)
        how = f"{NEIGHBOURS} neighbours, {len(few):,} codes; always the commonest label: {commonest:.2g}"
        _put(result, "knn_agreement", knn_agreement(codes[few], labels[few], NEIGHBOURS), "", "0 to 1", how)
    else:
        _say(result, ("knn_agreement",), f"it takes more than {NEIGHBOURS} images")


_FACTORS = ("linear_r2", "smooth_r2", "mig", "sap", "dci_disentanglement", "dci_completeness", "dci_error")


def _known_factors(result: Evaluation, codes: np.ndarray, data: Dataset, seed: int) -> None:
    if data.factors is None:
        return _say(result, _FACTORS, "the data set has no known factors")
    order = generator(seed, "evaluate", "factors").permutation(len(codes))
    fitted, unseen = np.sort(order[: len(order) // 2]), np.sort(order[len(order) // 2 :])
    if len(order) < LEAST_FITTED:
        return _say(result, _FACTORS, f"it takes at least {LEAST_FITTED} images")
    varied = [i for i in range(data.factors.shape[1]) if all(np.ptp(data.factors[p, i]) > 0 for p in (fitted, unseen))]
    if not varied:
        return _say(result, _FACTORS, "the factors do not vary")
    factors, names = data.factors[:, varied].astype(np.float64), [data.factor_names[i] for i in varied]

    def put(name: str, values: Float[np.ndarray, " F"], span: str, how: str) -> None:
        parts = dict(zip(names, values.tolist(), strict=True))
        _put(result, name, float(values.mean()), "", span, f"{how}; {_listed(parts)}", parts)

    halves = (codes[fitted], factors[fitted], codes[unseen], factors[unseen])
    put("linear_r2", linear_r2(*halves), "−∞ to 1", "least squares on half the codes, judged by the others")
    few, others = fitted[:: -(-len(fitted) // MOST_FITTED)], unseen[:: -(-len(unseen) // MOST_FITTED)]
    values = smooth_r2(codes[few], factors[few], codes[others], factors[others])
    put("smooth_r2", values, "−∞ to 1", f"kernel ridge on {len(few):,} codes, judged by {len(others):,} others")
    latents = codes.shape[1]
    if not 2 <= latents <= MOST_LATENTS:
        return _say(result, _FACTORS[2:], f"it takes 2 to {MOST_LATENTS} latent dimensions")
    put("mig", mig(codes, factors), "0 to 1", "Chen et al., 2018")
    put("sap", sap(codes, factors), "0 to 1", "Kumar et al., 2018")
    if len(varied) < 2:
        return _say(result, _FACTORS[4:], "it takes two factors that vary")
    scores = dci(*halves)
    how = f"lasso, penalty {ALPHA:g}; Eastwood & Williams, 2018"
    _put(result, "dci_disentanglement", scores.disentanglement, "", "0 to 1", how)
    _put(result, "dci_completeness", scores.completeness, "", "0 to 1", how)
    put("dci_error", scores.error, "∞ to 0", "in standard deviations, of unseen codes")
    return None


def _walks(result: Evaluation, encode: Callable[[np.ndarray], np.ndarray], data: Dataset, seed: int) -> None:
    """Let one factor at a time grow over its range while label and other factors are those of an image."""
    if data.factors is None or data.draw is None:
        return _say(result, ("monotone",), "it takes images drawn anew, of known factors")
    low, high = data.factors.min(0), data.factors.max(0)
    few = _some(len(data.images), MOST_WALKED, seed, "walks")
    labels = None if data.labels is None else data.labels[few].repeat(WALK_STEPS + 1)
    parts = {}
    for i, name in enumerate(data.factor_names):
        if low[i] < high[i]:
            factors = data.factors[few].repeat(WALK_STEPS + 1, 0)
            factors[:, i] = np.tile(np.linspace(low[i], high[i], WALK_STEPS + 1), len(few))
            parts[name] = monotone(encode(data.draw(labels, factors)).reshape(len(few), WALK_STEPS + 1, -1))
    if not parts:
        return _say(result, ("monotone",), "the factors do not vary")
    how = f"walks along one factor without a step back, {len(few):,} each of {WALK_STEPS} steps; {_listed(parts)}"
    _put(result, "monotone", float(np.mean(list(parts.values()))), "", "0 to 1", how, parts)
    return None


def _listed(parts: dict[str, float]) -> str:
    return ", ".join(f"{name} {value:.4g}" for name, value in parts.items())


def _some(count: int, most: int, seed: int, name: str) -> np.ndarray:
    """Return the indices, sorted, of all images or of ``most`` that the seed chooses."""
    return np.sort(generator(seed, "evaluate", name).permutation(count)[:most])


def _put(
    result: Evaluation,
    name: str,
    value: float,
    unit: str,
    span: str,
    how: str,
    parts: dict[str, float] | None = None,
) -> None:
    result.metrics[name] = Metric(value, unit, span, how, parts or {})


def _say(result: Evaluation, names: tuple[str, ...], why: str) -> None:
    result.missing.update(dict.fromkeys(names, why))
