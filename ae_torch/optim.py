"""Optimisers, with every hyper-parameter explicit.

The learning rate is an argument of each training step, so that both twins receive the same number.
"""

from collections.abc import Iterable, Mapping

import numpy as np
import torch
from torch import Tensor, nn

from ae_core.spec import SGD, AdamW, Training

_SLOTS = ("exp_avg", "exp_avg_sq", "momentum_buffer")


def make_optimizer(training: Training, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
    """Return the optimiser; its learning rate is set before each step."""
    match training.optimizer:
        case SGD(_, momentum):
            return torch.optim.SGD(
                parameters, lr=0.0, momentum=momentum, dampening=0, weight_decay=0, nesterov=False, fused=True
            )
        case AdamW(_, b1, b2, eps, weight_decay):
            return torch.optim.AdamW(
                parameters, lr=0.0, betas=(b1, b2), eps=eps, weight_decay=weight_decay, amsgrad=False, fused=True
            )
        case optimizer:
            betas = (optimizer.b1, optimizer.b2)
            return torch.optim.Adam(
                parameters, lr=0.0, betas=betas, eps=optimizer.eps, weight_decay=0, amsgrad=False, fused=True
            )


@torch.no_grad()
def clip_by_global_norm(parameters: Iterable[nn.Parameter], max_norm: float | None) -> None:
    """Scale gradients down to a global Euclidean norm of ``max_norm``, exactly; None leaves them as they are."""
    if max_norm is None:
        return
    grads = [p.grad for p in parameters if p.grad is not None]
    # torch.nn.utils.clip_grad_norm_ adds 1e-6 to the norm
    torch._foreach_mul_(grads, (max_norm / torch.nn.utils.get_total_norm(grads)).clamp(max=1.0))


def moments(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, np.ndarray]:
    """Return what the optimiser remembers: ``exp_avg.…``, ``exp_avg_sq.…`` or ``momentum_buffer.…``."""
    found: dict[str, np.ndarray] = {}
    for name, parameter in model.named_parameters():
        for slot, value in optimizer.state.get(parameter, {}).items():
            if isinstance(value, Tensor) and slot != "step":
                found[f"{slot}.{name}"] = value.detach().cpu().numpy().copy("C")
    return found


@torch.no_grad()
def with_moments(
    model: nn.Module, optimizer: torch.optim.Optimizer, tensors: Mapping[str, np.ndarray], step: int
) -> torch.optim.Optimizer:
    """Return the optimiser, set to what `moments` gave after so many steps; other tensors are left out."""
    for name, parameter in model.named_parameters():
        own = {slot: tensors[f"{slot}.{name}"] for slot in _SLOTS if f"{slot}.{name}" in tensors}
        memory = {slot: torch.empty_like(parameter).copy_(torch.from_numpy(t)) for slot, t in own.items()}
        if "exp_avg" in memory:
            memory["step"] = torch.tensor(float(step), dtype=torch.float32, device=parameter.device)
        if memory:
            optimizer.state[parameter] = memory
    return optimizer
