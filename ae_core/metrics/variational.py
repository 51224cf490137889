"""What a variational autoencoder says about the probability of images, and which of its latent numbers it uses.

The model comes as functions: ``decode`` makes images from codes, ``mean`` and ``logvar`` are those of the posterior
q(z|x) = N(mean, exp(logvar)). The prior is N(0, I).
"""

from collections.abc import Callable

import numpy as np
from jaxtyping import Bool, Float, Float64

from ae_core.metrics.reconstruction import log_probability
from ae_core.rng import normal
from ae_core.spec import Likelihood

Decode = Callable[[np.ndarray], np.ndarray]

ACTIVE_VARIANCE = 0.01
"""A latent number is active where its mean varies more than this: the threshold of Burda et al. (2016)."""

BLOCK = 4096
"""The most images that are decoded at a time."""


def kl_per_dimension(mean: Float[np.ndarray, "N L"], logvar: Float[np.ndarray, "N L"]) -> Float64[np.ndarray, " L"]:
    """Return KL(q(z|x) ‖ p(z)) of each latent dimension, in nats, averaged over images; at least 0.

    Source: Kingma & Welling (2014), appendix B: ½·(mean² + exp(logvar) − 1 − logvar).
    """
    return kl_divergence(mean, logvar).mean(0)


def kl_divergence(mean: Float[np.ndarray, "N L"], logvar: Float[np.ndarray, "N L"]) -> Float64[np.ndarray, "N L"]:
    """Return KL(q(z|x) ‖ p(z)) of each image and latent dimension, in nats; see `kl_per_dimension`."""
    m, v = mean.astype(np.float64), logvar.astype(np.float64)
    return 0.5 * (m**2 + np.expm1(v) - v)


def active_units(mean: Float[np.ndarray, "N L"]) -> Bool[np.ndarray, " L"]:
    """Return which latent dimensions the encoder uses: the variance of their mean over images is above 0.01.

    Source: Burda, Grosse & Salakhutdinov (2016), section 5.2; none to all of them.
    """
    return mean.astype(np.float64).var(0) > ACTIVE_VARIANCE


def elbo(
    decode: Decode,
    likelihood: Likelihood,
    images: Float[np.ndarray, "N H W C"],
    mean: Float[np.ndarray, "N L"],
    logvar: Float[np.ndarray, "N L"],
    seed: int = 0,
) -> Float64[np.ndarray, " N"]:
    """Return the evidence lower bound of each image, in nats: log p(x|z) at one draw of z, less the exact KL.

    It is the bound itself, whatever weights and reductions the training used. At most 0 for a Bernoulli likelihood.

    Source: Kingma & Welling (2014), eq. 7 with one sample. The draws are those of ``seed``.
    """
    z = mean + np.exp(0.5 * logvar.astype(np.float64)) * normal(mean.shape, seed, "elbo")
    result = -kl_divergence(mean, logvar).sum(1)
    for start in range(0, len(images), BLOCK):
        part = slice(start, start + BLOCK)
        result[part] += log_probability(likelihood, images[part], decode(z[part]))
    return result


def importance_weighted(
    decode: Decode,
    likelihood: Likelihood,
    images: Float[np.ndarray, "N H W C"],
    mean: Float[np.ndarray, "N L"],
    logvar: Float[np.ndarray, "N L"],
    samples: int,
    seed: int = 0,
) -> Float64[np.ndarray, " N"]:
    """Return an estimate of log p(x) of each image, in nats: log (1/K)·Σ p(x|zₖ)·p(zₖ) / q(zₖ|x), zₖ ~ q(z|x).

    Its expectation is never above log p(x) and grows towards it with K = ``samples``. The draws of an image are those
    of ``seed`` and of its place among the images; fewer samples are the first of more.

    Source: Burda, Grosse & Salakhutdinov (2016), eq. 8.
    """
    result = np.empty(len(images))
    at_once = max(1, BLOCK // samples)
    for start in range(0, len(images), at_once):
        x, m, v = images[start : start + at_once], *(a[start : start + at_once, None] for a in (mean, logvar))
        noise = np.stack([normal((samples, m.shape[-1]), seed, "importance", start + i) for i in range(len(x))])
        z = m + np.exp(0.5 * v.astype(np.float64)) * noise
        # of log p(z) and log q(z|x) the constants −½·log 2π are equal and left out
        log_prior, log_posterior = -0.5 * (z**2).sum(-1), -0.5 * (noise**2 + v).sum(-1)
        seen = log_probability(likelihood, np.repeat(x, samples, 0), decode(z.reshape(-1, z.shape[-1])))
        weights = seen.reshape(len(x), samples) + log_prior - log_posterior
        largest = weights.max(1)
        result[start : start + at_once] = largest + np.log(np.exp(weights - largest[:, None]).mean(1))
    return result
