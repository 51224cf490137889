"""Between the tensors of a weights file and a module: same names, same layouts."""

from collections.abc import Mapping
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor, nn

Module = TypeVar("Module", bound=nn.Module)


def tensor_shapes(module: nn.Module) -> dict[str, tuple[int, ...]]:
    """Return names and shapes of all parameters and of the state."""
    return {name: tuple(tensor.shape) for name, tensor in _leaves(module).items()}


def to_tensors(module: nn.Module) -> dict[str, np.ndarray]:
    """Return copies of all parameters and of the state."""
    return {name: tensor.detach().cpu().numpy().copy("C") for name, tensor in _leaves(module).items()}


def from_tensors(module: Module, tensors: Mapping[str, np.ndarray]) -> Module:
    """Set all parameters and the state, at the module's own precision, and return the module."""
    module.load_state_dict({name: torch.from_numpy(np.ascontiguousarray(t)) for name, t in tensors.items()})
    return module


def _leaves(module: nn.Module) -> dict[str, Tensor]:
    # PyTorch also counts the batches that batch norm has seen; nothing here depends on it
    return {name: t for name, t in module.state_dict().items() if not name.endswith("num_batches_tracked")}
