"""pythae's AE and VAE (Chadebec et al., 2022), trained with the step of its `BaseTrainer`.

Encoder and decoder are handed to it, as its users do. The loss and the noise replace its own, which are other formulas
and another random stream, through the methods that pythae has for them.
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
from ae_core.spec import Adam, GaussianBottleneck, Spec
from ae_core.system.environment import usable_cores
from ae_torch.engine import ENGINE
from ae_torch.model.bottleneck import NO_NOISE, GaussianCode
from benchmarks.race.sides import Runner
from benchmarks.race.sides.peer import check_common, check_pythae, expect
from benchmarks.race.workloads import Material, Workload, material, with_noise


class Encoder(BaseEncoder):
    """Our layers behind pythae's interface."""

    def __init__(self, model: ae_torch.Autoencoder) -> None:
        super().__init__()
        self.layers, self.bottleneck = model.encoder, model.bottleneck

    def forward(self, x: Float[Tensor, "B C H W"]) -> ModelOutput:  # noqa: D102
        code = self.bottleneck(self.layers(x.movedim(1, -1)), NO_NOISE)
        if isinstance(code, GaussianCode):
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
    """Return pythae's model of a spec.

    Raises:
        SpecError: the spec has parts that pythae's models do not have.
    """
    check_pythae(spec)
    likelihood, bottleneck = check_common(spec, constant=True), spec.bottleneck
    height, width, channels = spec.input_shape
    config = {"input_dim": (channels, height, width), "latent_dim": spec.latent_size}

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
            weight = spec.last_coefficients["kl"]
            return (errors + weight * kl).mean(0), errors.mean(0), kl.mean(0)

    if isinstance(bottleneck, GaussianBottleneck):
        return Variational(VAEConfig(**config), Encoder(model), Decoder(model))
    return Plain(AEConfig(**config), Encoder(model), Decoder(model))


class Training:
    """Training steps as pythae's trainer takes them, except that losses stay on the device until the last step."""

    def __init__(self, workload: Workload, arrays: Material) -> None:
        spec, steps = workload.spec, with_noise(arrays.steps, workload.spec)
        adam = expect(spec.training.optimizer, Adam)
        model = ae_torch.from_tensors(ae_torch.Autoencoder(spec), arrays.tensors[0])
        model.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]  # PyTorch's stubs lack it
        self.model: nn.Module = build(spec, model).train()
        self.optimizer = torch.optim.Adam(
            self.model.parameters(), lr=adam.learning_rate, betas=(adam.b1, adam.b2), eps=adam.eps
        )
        self.images = torch.from_numpy(np.ascontiguousarray(np.moveaxis(arrays.images, -1, 1)))
        self.indices = torch.from_numpy(steps.indices)
        self.noise = {site: torch.from_numpy(values.astype(np.float32)) for site, values in steps.noise.items()}

    def take(self, steps: int, first: int = 0) -> Float[np.ndarray, " K"]:
        """Return the loss of each step."""
        losses = []
        for i in range(first, first + steps):
            row = i % len(self.indices)
            if self.noise:
                self.model.noise = self.noise["bottleneck"][row]
            output = self.model({"data": self.images[self.indices[row]]}, epoch=1, dataset_size=len(self.images))
            self.optimizer.zero_grad()
            output.loss.backward()
            self.optimizer.step()
            losses.append(output.loss.detach())
        return torch.stack(losses).numpy()

    def settle(self) -> None:
        """Do nothing: on a CPU nothing is ever under way."""


def prepare() -> None:
    """Give PyTorch the cores that all have."""
    torch.set_num_threads(usable_cores())


def open_runner(workload: Workload, variant: str) -> Runner:
    """Return the runner."""
    return Training(workload, material(workload, ENGINE.shapes(workload.spec)))
