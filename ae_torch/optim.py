"""Optimisers, with every hyper-parameter explicit.

The learning rate is an argument of each training step, so that both twins receive the same number.
"""

from collections.abc import Iterable, Mapping
from functools import singledispatch

import numpy as np
import torch
from torch import nn

from ae_core.spec import SGD, Adam, AdamW, Optimizer, missing

Parameters = Iterable[nn.Parameter]


@singledispatch
def make_optimizer(optimizer: Optimizer, parameters: Parameters) -> torch.optim.Optimizer:
    """Return PyTorch's optimiser; its learning rate, ``lr`` of each group, is set before each step.

    Raises:
        MissingError: none is registered for this kind.
    """
    raise missing("ae_torch", "make_optimizer", optimizer)


@singledispatch
def slots_of(optimizer: Optimizer) -> tuple[str, ...]:
    """Return the names of what an optimiser remembers for each parameter, but for the number of steps.

    Raises:
        MissingError: none are registered for this kind.
    """
    raise missing("ae_torch", "slots_of", optimizer)


@make_optimizer.register
def _adam(optimizer: Adam, parameters: Parameters) -> torch.optim.Optimizer:
    betas = (optimizer.b1, optimizer.b2)
    return torch.optim.Adam(
        parameters, lr=0.0, betas=betas, eps=optimizer.eps, weight_decay=0, amsgrad=False, fused=True
    )


@make_optimizer.register
def _adamw(optimizer: AdamW, parameters: Parameters) -> torch.optim.Optimizer:
    betas, decay = (optimizer.b1, optimizer.b2), optimizer.weight_decay
    return torch.optim.AdamW(
        parameters, lr=0.0, betas=betas, eps=optimizer.eps, weight_decay=decay, amsgrad=False, fused=True
    )


@make_optimizer.register
def _sgd(optimizer: SGD, parameters: Parameters) -> torch.optim.Optimizer:
    momentum = optimizer.momentum
    return torch.optim.SGD(
        parameters, lr=0.0, momentum=momentum, dampening=0, weight_decay=0, nesterov=False, fused=True
    )


@slots_of.register(Adam)
@slots_of.register(AdamW)
def _moments_of_adam(optimizer: Optimizer) -> tuple[str, ...]:
    return "exp_avg", "exp_avg_sq"


@slots_of.register
def _velocity_of_sgd(optimizer: SGD) -> tuple[str, ...]:
    return ("momentum_buffer",) if optimizer.momentum else ()


@torch.no_grad()
def clip_by_global_norm(parameters: Iterable[nn.Parameter], max_norm: float | None) -> None:
    """Scale gradients down to a global Euclidean norm of ``max_norm``, exactly; None leaves them as they are."""
    if max_norm is None:
        return
    grads = [p.grad for p in parameters if p.grad is not None]
    # torch.nn.utils.clip_grad_norm_ adds 1e-6 to the norm
    torch._foreach_mul_(grads, (max_norm / torch.nn.utils.get_total_norm(grads)).clamp(max=1.0))


def moments(optimizer: Optimizer, model: nn.Module, running: torch.optim.Optimizer) -> dict[str, np.ndarray]:
    """Return what the optimiser remembers: ``exp_avg.…``, ``exp_avg_sq.…`` or ``momentum_buffer.…``; 0 at the start."""
    found: dict[str, np.ndarray] = {}
    for slot in slots_of(optimizer):
        for name, parameter in model.named_parameters():
            value = running.state.get(parameter, {}).get(slot)
            value = torch.zeros_like(parameter) if value is None else value
            found[f"{slot}.{name}"] = value.detach().cpu().numpy().copy("C")
    return found


@torch.no_grad()
def with_moments(
    optimizer: Optimizer,
    model: nn.Module,
    running: torch.optim.Optimizer,
    tensors: Mapping[str, np.ndarray],
    step: int,
) -> torch.optim.Optimizer:
    """Return PyTorch's optimiser, set to what `moments` gave after so many steps; other tensors are left out."""
    for name, parameter in model.named_parameters():
        own = {slot: tensors[f"{slot}.{name}"] for slot in slots_of(optimizer) if f"{slot}.{name}" in tensors}
        if own:
            restored = {slot: torch.empty_like(parameter).copy_(torch.from_numpy(t)) for slot, t in own.items()}
            restored["step"] = torch.tensor(float(step), dtype=torch.float32, device=parameter.device)
            running.state[parameter] = restored
    return running
