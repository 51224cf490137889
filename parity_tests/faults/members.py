"""Faults in single kinds: TopK, corruptions, capacity, penalties, dropout, residual blocks."""

from typing import Any

import jax.numpy as jnp
import torch
from jax import lax

import ae_jax.model.autoencoder
import ae_jax.model.bottleneck
import ae_jax.model.dense
import ae_jax.model.dropout
import ae_jax.model.residual
import ae_torch.model.autoencoder
import ae_torch.model.bottleneck
import ae_torch.model.dense
import ae_torch.model.dropout
import ae_torch.model.residual
from parity_tests.faults.planting import Fault, Patch, after, before, constructor, in_both

_T, _J = ae_torch, ae_jax
_TOPK, _MASKING, _GAUSSIAN, _CAPACITY, _RESIDUAL = (
    "dense topk",
    "conv masking",
    "dense gaussian noise",
    "dense capacity",
    "residual blocks",
)
_SPARSE, _L1, _CONTRACTIVE = "dense sparse", "dense l1", "dense contractive, noise"
_DROPOUT, _SCALED = "dense dropout", "residual, learned scale"


def _without_sign(result: Any, code: Any, bottleneck: Any, coefficients: Any) -> Any:
    weight, distance = result["capacity"]
    return {**result, "capacity": (weight, distance * distance)}


def _unheeded(result: Any, code: Any, bottleneck: Any, coefficients: Any) -> Any:
    return {"kl": (coefficients["capacity"], result["kl"][1]), "capacity": (None, result["capacity"][1])}


def _divergence(p: Any, q: Any) -> Any:
    log = torch.log if any(isinstance(rates, torch.Tensor) for rates in (p, q)) else jnp.log
    return p * log(p / q) + (1 - p) * log((1 - p) / (1 - q))


def _exchanged(result: Any, part: Any, seen: Any) -> Any:
    return _divergence(seen.code.z.mean(0), part.rate).sum()


def _of_each_sample(result: Any, part: Any, seen: Any) -> Any:
    return _divergence(part.rate, seen.code.z).sum(1)


def _averaged(result: Any, part: Any, seen: Any) -> Any:
    return result / seen.code.z.shape[1]


def _sloped(result: Any, part: Any, seen: Any) -> Any:
    z = seen.code.z
    return (torch.where(z >= 0, z, -z) if isinstance(z, torch.Tensor) else jnp.where(z >= 0, z, -z)).sum(1)


def _only(kind: str, change: Any) -> Any:
    return lambda result, part, seen: change(result, part, seen) if part.kind == kind else result


def _unsquared(result: Any, part: Any, seen: Any) -> Any:
    return result**0.5


def _without_gradient(result: Any, part: Any, seen: Any) -> Any:
    return result.detach() if isinstance(result, torch.Tensor) else lax.stop_gradient(result)


def _of_logvar(part: Any, seen: Any) -> tuple[Any, Any]:
    def encode(x: Any) -> Any:
        code = seen.encode(x)
        return code._replace(z=code.logvar)

    return part, seen._replace(encode=encode)


def _elsewhere(part: Any, seen: Any) -> tuple[Any, Any]:
    return part, seen._replace(x=seen.x + 0.25)


def _roll(result: Any, axes: tuple[int, int]) -> Any:
    return torch.roll(result, (1, 1), axes) if isinstance(result, torch.Tensor) else jnp.roll(result, (1, 1), axes)


def _dropped_torch(change: Any) -> list[Patch]:
    """Change the noise that dropout gets: ``change(noise)``."""
    turned = lambda self, x, noise: (self, x, noise if noise is None else change(noise))  # noqa: E731
    return before(_T.model.dropout.Dropout, "forward", turned)


def _dropped_jax(change: Any) -> list[Patch]:
    """The same in the JAX twin."""
    turned = lambda self, x, noise: (self, x, noise if noise is None else change(noise))  # noqa: E731
    return before(_J.model.dropout.Dropout, "__call__", turned)


def _kept(module: Any, change: Any) -> list[Patch]:
    """Change threshold and factor of dropout."""
    return after(module.model.dropout, "kept", lambda result, share: change(*result))


def _first_mask(noise: Any) -> Any:
    return 0 * noise + noise[:1]


def _not_in_decoder(result: str, part: str, block: int) -> str:
    return "" if part == "decoder" else result


def _scaled_torch(change: Any) -> list[Patch]:
    """Change what a learned scale gives: ``change(result, scale, x)``."""
    return after(_T.model.residual.Scale, "forward", lambda result, self, x: change(result, self.weight, x))


def _scaled_jax(change: Any) -> list[Patch]:
    """The same in the JAX twin."""
    return after(
        _J.model.residual.Scale,
        "__call__",
        lambda result, self, x: change(result, self.variables["params"]["weight"], x),
    )


def _unlearned(result: Any, scale: Any, x: Any) -> Any:
    fixed = scale.detach() if isinstance(scale, torch.Tensor) else lax.stop_gradient(scale)
    return fixed * x + 0 * scale


MEMBERS: dict[str, Fault] = {
    **in_both(
        "TopK keeps one more",
        _TOPK,
        lambda: constructor(_T.model.bottleneck, "TopKHead", k=lambda k: k + 1),
        lambda: constructor(_J.model.bottleneck, "TopKHead", k=lambda k: k + 1),
    ),
    **in_both(
        "images not corrupted",
        _MASKING,
        lambda: after(_T.model.autoencoder, "corrupt", lambda result, corruption, x, noise: x),
        lambda: after(_J.model.autoencoder, "corrupt", lambda result, corruption, x, noise: x),
    ),
    **in_both(
        "the other pixels masked",
        _MASKING,
        lambda: before(_T.model.autoencoder, "corrupt", lambda corruption, x, noise: (corruption, x, 1 - noise)),
        lambda: before(_J.model.autoencoder, "corrupt", lambda corruption, x, noise: (corruption, x, 1 - noise)),
    ),
    **in_both(
        "corrupted images cut off at 0 and 1",
        _GAUSSIAN,
        lambda: after(_T.model.autoencoder, "corrupt", lambda result, *a: result.clamp(0, 1)),
        lambda: after(_J.model.autoencoder, "corrupt", lambda result, *a: result.clip(0, 1)),
    ),
    **in_both(
        "distance from the capacity squared",
        _CAPACITY,
        lambda: after(_T.model.bottleneck.GaussianCode, "penalties", _without_sign),
        lambda: after(_J.model.bottleneck.GaussianCode, "penalties", _without_sign),
    ),
    **in_both(
        "capacity unheeded",
        _CAPACITY,
        lambda: after(_T.model.bottleneck.GaussianCode, "penalties", _unheeded),
        lambda: after(_J.model.bottleneck.GaussianCode, "penalties", _unheeded),
    ),
    **in_both(
        "rates of each sample for those of the batch",
        _SPARSE,
        lambda: after(_T.model.autoencoder, "penalty", _of_each_sample),
        lambda: after(_J.model.autoencoder, "penalty", _of_each_sample),
    ),
    **in_both(
        "target and rate exchanged",
        _SPARSE,
        lambda: after(_T.model.autoencoder, "penalty", _exchanged),
        lambda: after(_J.model.autoencoder, "penalty", _exchanged),
    ),
    **in_both(
        "sparsity averaged over latent dimensions",
        _SPARSE,
        lambda: after(_T.model.autoencoder, "penalty", _averaged),
        lambda: after(_J.model.autoencoder, "penalty", _averaged),
    ),
    **in_both(
        "L1 with a slope at 0",
        _L1,
        lambda: after(_T.model.autoencoder, "penalty", _sloped),
        lambda: after(_J.model.autoencoder, "penalty", _sloped),
    ),
    **in_both(
        "norm of the Jacobian not squared",
        _CONTRACTIVE,
        lambda: after(_T.model.autoencoder, "penalty", _only("contractive", _unsquared)),
        lambda: after(_J.model.autoencoder, "penalty", _only("contractive", _unsquared)),
    ),
    **in_both(
        "no gradient through the Jacobian",
        _CONTRACTIVE,
        lambda: after(_T.model.autoencoder, "penalty", _only("contractive", _without_gradient)),
        lambda: after(_J.model.autoencoder, "penalty", _only("contractive", _without_gradient)),
    ),
    **in_both(
        "Jacobian of the log-variance for that of the mean",
        _CONTRACTIVE,
        lambda: before(_T.model.autoencoder, "penalty", _of_logvar),
        lambda: before(_J.model.autoencoder, "penalty", _of_logvar),
    ),
    **in_both(
        "Jacobian at other images",
        _CONTRACTIVE,
        lambda: before(_T.model.autoencoder, "penalty", _elsewhere),
        lambda: before(_J.model.autoencoder, "penalty", _elsewhere),
    ),
    **in_both(
        "enlarged map shifted by a pixel",
        _RESIDUAL,
        lambda: after(_T.model.residual, "enlarged", lambda result, *a: _roll(result, (2, 3))),
        lambda: after(_J.model.residual, "enlarged", lambda result, *a: _roll(result, (1, 2))),
    ),
    **in_both(
        "what dropout keeps is not made larger",
        _DROPOUT,
        lambda: _kept(_T, lambda threshold, factor: (threshold, 1.0)),
        lambda: _kept(_J, lambda threshold, factor: (threshold, 1.0)),
    ),
    **in_both(
        "dropout of another share",
        _DROPOUT,
        lambda: _kept(_T, lambda threshold, factor: (threshold * 0.9, factor)),
        lambda: _kept(_J, lambda threshold, factor: (threshold * 0.9, factor)),
    ),
    **in_both(
        "the other numbers dropped",
        _DROPOUT,
        lambda: _dropped_torch(lambda noise: 1 - noise),
        lambda: _dropped_jax(lambda noise: 1 - noise),
    ),
    **in_both(
        "one mask of dropout for all images",
        _DROPOUT,
        lambda: _dropped_torch(_first_mask),
        lambda: _dropped_jax(_first_mask),
    ),
    **in_both(
        "no dropout in the decoder",
        _DROPOUT,
        lambda: after(_T.model.dense, "dropout_site", _not_in_decoder),
        lambda: after(_J.model.dense, "dropout_site", _not_in_decoder),
    ),
    **in_both(
        "scale left out",
        _SCALED,
        lambda: _scaled_torch(lambda result, scale, x: x + 0 * scale),
        lambda: _scaled_jax(lambda result, scale, x: x + 0 * scale),
    ),
    **in_both(
        "scale squared",
        _SCALED,
        lambda: _scaled_torch(lambda result, scale, x: scale * result),
        lambda: _scaled_jax(lambda result, scale, x: scale * result),
    ),
    **in_both(
        "scale beside 1",
        _SCALED,
        lambda: _scaled_torch(lambda result, scale, x: result + x),
        lambda: _scaled_jax(lambda result, scale, x: result + x),
    ),
    **in_both(
        "scale that is not learned",
        _SCALED,
        lambda: _scaled_torch(_unlearned),
        lambda: _scaled_jax(_unlearned),
    ),
}
"""By name."""
