"""The PyTorch half."""

# setup, __call__ and forward are what the class's docstring says
# ruff: noqa: D102

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ae_torch.model.bottleneck import Coefficients, Noise, Term, make_bottleneck
from ae_torch.model.corruption import corrupt
from ae_torch.model.layers import Conv, Linear
from ae_torch.model.likelihood import make_likelihood
from ae_torch.model.norm import make_norm
from ae_torch.model.penalty import Seen, penalty
from ae_torch.optim import Parameters, make_optimizer, slots_of
from outside_parts import (
    CenteredBottleneck,
    CodeL1,
    Decorrelation,
    Lion,
    MapBottleneck,
    RMSNorm,
    RMSprop,
    StudentT,
    UniformNoise,
)


class RMS(nn.Module):
    """y = weight·x / √(mean of x² over the channels + eps)."""

    def __init__(self, features: int, eps: float) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.zeros(features))

    def forward(self, x: Float[Tensor, "B C *P"]) -> Float[Tensor, "B C *P"]:
        x = x.movedim(1, -1)
        scale = torch.sqrt((x**2).mean(-1, keepdim=True) + self.eps)
        return (x / scale * self.weight).movedim(-1, 1)


class Code(NamedTuple):
    """A code without a cost."""

    z: Float[Tensor, "B ..."]

    def penalties(self, bottleneck: Any, coefficients: Coefficients) -> dict[str, Term]:
        """Return no penalty."""
        return {}


class CenteredHead(nn.Module):
    """z = W·features + b − running mean; the mean takes the batch in afterwards, in training."""

    running_center: Tensor

    def __init__(self, features: int, latent: int, momentum: float, use_bias: bool) -> None:
        super().__init__()
        self.momentum = momentum
        self.code = Linear(features, latent, use_bias)
        self.register_buffer("running_center", torch.zeros(latent))

    def forward(self, x: Float[Tensor, "B ..."], noise: Noise) -> Code:
        y = self.code(x.flatten(1))
        z = y - self.running_center
        if self.training:
            self.running_center.add_(self.momentum * (y.detach().mean(0) - self.running_center))
        return Code(z)


class MapHead(nn.Module):
    """z = W·features + b at each place."""

    def __init__(self, features: int, channels: int, use_bias: bool) -> None:
        super().__init__()
        self.code = Conv(features, channels, 1, 1, (0, 0), use_bias)

    def forward(self, x: Float[Tensor, "B h w F"], noise: Noise) -> Code:
        return Code(self.code(x.movedim(-1, 1)).movedim(1, -1))


@dataclass(frozen=True)
class Student:
    """Pixels as variables with Student's t distribution; the output is their mean."""

    degrees: float
    scale: float

    def mean(self, output: Float[Tensor, "B H W C"]) -> Float[Tensor, "B H W C"]:
        """Return output itself."""
        return output

    def negative_log_likelihood(
        self, output: Float[Tensor, "B H W C"], x: Float[Tensor, "B H W C"]
    ) -> Float[Tensor, " B"]:
        """Return the sum over each image, without its constant."""
        squares = (x - output) ** 2 / (self.degrees * self.scale**2)
        return 0.5 * (self.degrees + 1) * torch.log1p(squares).sum((1, 2, 3))


class LionOptimizer(torch.optim.Optimizer):
    """Lion as PyTorch's optimisers are."""

    def __init__(self, parameters: Parameters, lr: float, b1: float, b2: float) -> None:
        super().__init__(parameters, {"lr": lr, "b1": b1, "b2": b2})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Move each parameter by the sign of its mean gradient."""
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                state = self.state[parameter]
                if not state:
                    state["exp_avg"] = torch.zeros_like(parameter)
                mean, b1, b2 = state["exp_avg"], group["b1"], group["b2"]
                parameter.sub_(group["lr"] * torch.sign(b1 * mean + (1 - b1) * parameter.grad))
                mean.copy_(b2 * mean + (1 - b2) * parameter.grad)


@make_norm.register
def _rms(norm: RMSNorm, features: int) -> RMS:
    return RMS(features, norm.eps)


@make_bottleneck.register
def _centered(bottleneck: CenteredBottleneck, features: tuple[int, ...], use_bias: bool = True) -> CenteredHead:
    return CenteredHead(features[-1], bottleneck.latent, bottleneck.momentum, use_bias)


@make_bottleneck.register
def _map(bottleneck: MapBottleneck, features: tuple[int, ...], use_bias: bool = True) -> MapHead:
    return MapHead(features[-1], bottleneck.channels, use_bias)


@make_likelihood.register
def _student_t(likelihood: StudentT) -> Student:
    return Student(likelihood.degrees, likelihood.scale)


@corrupt.register
def _uniform_noise(
    corruption: UniformNoise, x: Float[Tensor, "B H W C"], noise: Float[Tensor, "B H W C"]
) -> Float[Tensor, "B H W C"]:
    return x + corruption.scale * (2 * noise - 1)


@penalty.register
def _code_l1(part: CodeL1, seen: Seen) -> Float[Tensor, " B"]:
    z = seen.code.z.flatten(1)
    return (z * torch.sign(z)).sum(1)  # at 0 the slope of abs is 1 in JAX and 0 in PyTorch; this one is 0 in both


@penalty.register
def _decorrelation(part: Decorrelation, seen: Seen) -> Float[Tensor, ""]:
    z = seen.code.z.flatten(1)
    centered = z - z.mean(0)
    covariance = centered.T @ centered / len(z)
    return (covariance**2).sum() - (torch.diagonal(covariance) ** 2).sum()


@make_optimizer.register
def _rmsprop(optimizer: RMSprop, parameters: Parameters) -> torch.optim.Optimizer:
    alpha, eps = optimizer.smoothing, optimizer.eps
    return torch.optim.RMSprop(parameters, lr=0.0, alpha=alpha, eps=eps, weight_decay=0, momentum=0, centered=False)


@slots_of.register
def _mean_square_of_rmsprop(optimizer: RMSprop) -> tuple[str, ...]:
    return ("square_avg",)


@make_optimizer.register
def _lion(optimizer: Lion, parameters: Parameters) -> torch.optim.Optimizer:
    return LionOptimizer(parameters, 0.0, optimizer.b1, optimizer.b2)


@slots_of.register
def _mean_of_lion(optimizer: Lion) -> tuple[str, ...]:
    return ("exp_avg",)
