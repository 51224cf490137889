"""Optimisers of a pair: by name, the same in both frameworks; or the user's own, which may have traps of their own."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import optax
import torch

from parity_tests.pair.both import Both
from parity_tests.pair.calls import Change
from parity_tests.pair.search import Finding
from parity_tests.pair.sides import Optimizer

OPTIMIZERS: dict[str, Optimizer] = {
    "sgd": Optimizer(optax.sgd(1e-2), lambda p: torch.optim.SGD(p, 1e-2)),
    "momentum": Optimizer(optax.sgd(1e-2, momentum=0.9), lambda p: torch.optim.SGD(p, 1e-2, momentum=0.9)),
    "adam": Optimizer(
        optax.adam(1e-3, b1=0.9, b2=0.999, eps=1e-8), lambda p: torch.optim.Adam(p, 1e-3, (0.9, 0.999), 1e-8)
    ),
    "adamw": Optimizer(
        optax.adamw(1e-3, b1=0.9, b2=0.999, eps=1e-8, weight_decay=1e-2),
        lambda p: torch.optim.AdamW(p, 1e-3, (0.9, 0.999), 1e-8, 1e-2),
    ),
}
"""Every number that the frameworks choose differently is given."""

_NUMBERS: dict[str, tuple[Any, ...]] = {
    "weight_decay": (1e-4, 1e-2, 0, 5e-4, 1e-3, 0.1),
    "decoupled_weight_decay": (True, False),
    "eps": (1e-8, 1e-7, 1e-6, 1e-5, 1e-3, 1e-10),
    "betas": ((0.9, 0.999), (0.9, 0.99), (0.9, 0.98), (0.9, 0.95), (0.5, 0.999), (0.5, 0.9)),
    "momentum": (0.9, 0.99, 0.0),
    "nesterov": (True, False),
    "amsgrad": (True, False),
    "alpha": (0.9, 0.99),
    "dampening": (0,),
}
"""Of a parameter group of PyTorch, and what else they may be: the defaults of either framework and of papers."""


def _others(group: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    singles = [
        {name: value} for name, values in _NUMBERS.items() if name in group for value in values if group[name] != value
    ]
    yield from singles
    # a decay that is decoupled often has another default too
    yield from (
        {**a, **b}
        for a in singles
        for b in singles
        if a.keys() == {"decoupled_weight_decay"} and b.keys() == {"weight_decay"}
    )


def optimizer_trap(
    both: Both, chosen: Optimizer, steps: int, changes: Mapping[int, Change]
) -> tuple[Finding | None, int]:
    """Return which of PyTorch's numbers differs where gradients agree and parameters do not."""
    group = chosen.torch([torch.nn.Parameter(torch.zeros(1))]).param_groups[0]
    tried = 0
    for tried, others in enumerate(_others(group), start=1):
        try:
            checks = both.training_checks(Optimizer(chosen.jax, _changed(chosen.torch, others)), steps, changes)
        except (RuntimeError, ValueError):
            continue
        if all(check.passed for check in checks):
            said = ", ".join(f"{name} of {value} in place of {group[name]}" for name, value in others.items())
            return Finding("optimiser", ("training",), "PyTorch's optimiser", said), tried
    return None, tried


def _changed(
    make: Callable[..., torch.optim.Optimizer], others: Mapping[str, Any]
) -> Callable[..., torch.optim.Optimizer]:
    def changed(parameters: Any) -> torch.optim.Optimizer:
        optimizer = make(parameters)
        for group in optimizer.param_groups:
            group.update(others)
        return optimizer

    return changed
