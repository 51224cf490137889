"""The PyTorch side of a pair: a copy of its module with the weights of JAX, as it is and compiled."""

import copy
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from ae_core.system.environment import usable_cores
from ae_torch.engine import ENGINE as ENGINE
from ae_torch.engine import device_of_training
from benchmarks.race.sides import Runner
from benchmarks.race.sides.pair import BETAS, EPS, LEARNING_RATE, TARGET, Setup, cast, set_up
from benchmarks.race.workloads import PairWorkload
from parity_tests.pair.calls import tensors_of


class Model:
    """The module with JAX's weights, and its inputs, at one precision. Its mode is that in which the file left it."""

    def __init__(self, setup: Setup, precision: str) -> None:
        device, dtype = device_of_training(), getattr(torch, precision)
        self.module: nn.Module = copy.deepcopy(setup.pair.torch_module).to(dtype)
        own = self.module.state_dict(keep_vars=True)
        with torch.no_grad():
            for name, one in setup.matches.tensors.items():
                # a copy, since an array of JAX may not be written to
                own[name].copy_(torch.from_numpy(np.array(one.take(setup.arrays))).to(dtype))
        self.module.to(device)
        self.inputs = tuple(torch.from_numpy(cast(x, precision).copy()).to(device) for x in setup.pair.own_inputs)


class Forward:
    """Passes through the module, without gradients."""

    def __init__(self, setup: Setup, variant: str = "eager", precision: str = "float32") -> None:
        self.model = Model(setup, precision)
        module = self.model.module
        self.run: Any = torch.compile(module, dynamic=False) if variant == "compile" else module

    @torch.no_grad()
    def take(self, steps: int, first: int = 0) -> Shaped[np.ndarray, " N"]:
        """Return all numbers of the outputs of the last pass, in the module's own layout."""
        output: Any = None
        for _ in range(steps):
            output = self.run(*self.model.inputs)
            settle()
        return np.concatenate([leaf.cpu().numpy().reshape(-1) for leaf in tensors_of(output)])

    def settle(self) -> None:
        """Wait for the device."""
        settle()


class Training:
    """Training steps on the same inputs: forward, backward, Adam."""

    def __init__(self, setup: Setup, variant: str = "eager", precision: str = "float32") -> None:
        self.model = model = Model(setup, precision)
        parameters = [parameter for parameter in model.module.parameters() if parameter.requires_grad]
        fused = None if variant == "eager" else True
        self.optimizer = torch.optim.Adam(parameters, LEARNING_RATE, BETAS, EPS, fused=fused)
        chosen = setup.pair.torch_loss

        def loss(*inputs: Tensor) -> Tensor:
            output = model.module(*inputs)
            if chosen is not None:
                return chosen(output, *inputs)
            leaves = [leaf for leaf in tensors_of(output) if leaf.is_floating_point()]
            return torch.stack([((leaf - TARGET) ** 2).mean() for leaf in leaves]).sum() / 2

        self.loss: Any = torch.compile(loss, dynamic=False) if variant == "compile" else loss

    def take(self, steps: int, first: int = 0) -> Float[np.ndarray, " K"]:
        """Return the loss of each step."""
        losses = []
        for _ in range(steps):
            self.optimizer.zero_grad(set_to_none=True)
            value = self.loss(*self.model.inputs)
            value.backward()
            self.optimizer.step()
            losses.append(value.detach())
        return torch.stack(losses).cpu().numpy()

    def settle(self) -> None:
        """Wait for the device."""
        settle()


def settle() -> None:
    """Wait for a GPU; on a CPU nothing is ever under way."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def prepare() -> None:
    """Let PyTorch use as many cores as JAX does."""
    torch.set_num_threads(usable_cores())


def open_runner(workload: PairWorkload, variant: str) -> Runner:
    """Return the runner of a variant of a pair's file."""
    setup = set_up(workload.file)
    return Training(setup, variant) if workload.trains else Forward(setup, variant)
