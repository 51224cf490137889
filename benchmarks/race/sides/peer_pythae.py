"""pythae's AE and VAE (Chadebec et al., 2022), with the step that its `BaseTrainer` takes.

Encoder and decoder are given to it, as its users do; the loss and the noise are put in by the methods that pythae has
for them, since its own are other formulas and another random stream.
"""

from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from pythae.models import AE, VAE, AEConfig, VAEConfig
from pythae.models.base.base_utils import ModelOutput
from pythae.models.nn import BaseDecoder, BaseEncoder
from torch import Tensor, nn
from torch.nn import functional as F

import ae_torch
from ae_core.errors import SpecError
from ae_core.spec import SGD, BernoulliLikelihood, GaussianBottleneck, Spec
from ae_core.system.environment import usable_cores
from ae_torch.engine import ENGINE
from benchmarks.race.sides import Runner
from benchmarks.race.workloads import Material, Workload, material


class Encoder(BaseEncoder):
    """Our layers behind pythae's interface."""

    def __init__(self, model: ae_torch.Autoencoder) -> None:
        super().__init__()
        self.layers = model.encoder

    def forward(self, x: Float[Tensor, "B C H W"]) -> ModelOutput:  # noqa: D102
        code = self.layers(x.movedim(1, -1))
        if isinstance(code, ae_torch.GaussianCode):
            return ModelOutput(embedding=code.mean, log_covariance=code.logvar)
        return ModelOutput(embedding=code.z)


class Decoder(BaseDecoder):
    """Our layers behind pythae's interface."""

    def __init__(self, model: ae_torch.Autoencoder) -> None:
        super().__init__()
        self.layers = model.decoder

    def forward(self, z: Float[Tensor, "B L"]) -> ModelOutput:  # noqa: D102
        return ModelOutput(reconstruction=self.layers(z).movedim(-1, 1))


def build(spec: Spec, model: ae_torch.Autoencoder) -> Any:
    """Return pythae's model of a spec."""
    likelihood, bottleneck = spec.likelihood, spec.bottleneck
    if not isinstance(likelihood, BernoulliLikelihood):
        raise SpecError("pythae: written for a Bernoulli likelihood alone")
    height, width, channels = spec.input_shape
    config = {"input_dim": (channels, height, width), "latent_dim": bottleneck.latent}

    def reconstruction(logits: Tensor, x: Tensor) -> Tensor:
        errors = F.binary_cross_entropy_with_logits(logits, x, reduction="none").flatten(1)
        return likelihood.weight * (errors.mean(1) if likelihood.reduction == "mean" else errors.sum(1))

    class Plain(AE):  # type: ignore[misc]
        def loss_function(self, recon_x: Tensor, x: Tensor) -> Tensor:
            return reconstruction(recon_x, x).mean(0)

    class Variational(VAE):  # type: ignore[misc]
        noise: Tensor

        def _sample_gauss(self, mu: Tensor, std: Tensor) -> tuple[Tensor, Tensor]:
            return mu + self.noise * std, self.noise

        def loss_function(
            self, recon_x: Tensor, x: Tensor, mu: Tensor, log_var: Tensor, z: Tensor
        ) -> tuple[Tensor, Tensor, Tensor]:
            kl = -0.5 * torch.sum(1 + log_var - mu.pow(2) - log_var.exp(), dim=-1)
            errors = reconstruction(recon_x, x)
            weight = bottleneck.kl_weight if isinstance(bottleneck, GaussianBottleneck) else 0.0
            return (errors + weight * kl).mean(0), errors.mean(0), kl.mean(0)

    if isinstance(bottleneck, GaussianBottleneck):
        return Variational(VAEConfig(**config), Encoder(model), Decoder(model))
    return Plain(AEConfig(**config), Encoder(model), Decoder(model))


class Training:
    """Training steps, as pythae's trainer takes them; but it leaves the loss of each on the device until the end."""

    def __init__(self, workload: Workload, numbers: Material) -> None:
        spec, adam = workload.spec, workload.spec.training.optimizer
        if isinstance(adam, SGD):
            raise SpecError("pythae: written for Adam alone")
        model = ae_torch.from_tensors(ae_torch.Autoencoder(spec), numbers.tensors[0])
        model.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]  # PyTorch's stubs lack it
        self.model: nn.Module = build(spec, model).train()
        self.optimizer = torch.optim.Adam(
            self.model.parameters(), lr=adam.learning_rate, betas=(adam.b1, adam.b2), eps=adam.eps
        )
        self.images = torch.from_numpy(np.ascontiguousarray(np.moveaxis(numbers.images, -1, 1)))
        self.indices = torch.from_numpy(numbers.steps.indices)
        self.noise = torch.from_numpy(numbers.steps.noise.astype(np.float32))

    def take(self, steps: int, first: int = 0) -> Float[np.ndarray, " K"]:
        """Return the loss of each step."""
        losses = []
        for i in range(first, first + steps):
            row = i % len(self.indices)
            self.model.noise = self.noise[row]
            output = self.model({"data": self.images[self.indices[row]]}, epoch=1, dataset_size=len(self.images))
            self.optimizer.zero_grad()
            output.loss.backward()
            self.optimizer.step()
            losses.append(output.loss.detach())
        return torch.stack(losses).numpy()

    def settle(self) -> None:
        """Nothing is ever under way on a CPU."""


def prepare() -> None:
    """Give PyTorch the cores that all have."""
    torch.set_num_threads(usable_cores())


def open_runner(workload: Workload, variant: str) -> Runner:
    """Return the runner."""
    return Training(workload, material(workload, ENGINE.shapes(workload.spec)))
