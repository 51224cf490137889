"""Mends: other ways to run a call of a PyTorch function, and what each would mean for the code."""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch

from parity_tests.pair.calls import Call, Change


class Mend(NamedTuple):
    """One way to run a call, and what it would mean to write it so."""

    trap: str
    sentence: str
    change: Change


class Around(NamedTuple):
    """What a trap may look at besides the call."""

    shapes: list[tuple[int, ...]]
    """That the output may have, were it JAX's: with channels first, and as it is."""
    maps: tuple[tuple[int, ...], ...]
    """Shapes of the maps, [C, H, W], that came before."""
    weights: tuple[tuple[str, torch.Tensor], ...]
    """All parameters, by name."""


Way = tuple[str, Change]


def with_(**others: Any) -> Change:
    """Other arguments; a function is applied to the argument that the call has then."""

    def change(function: Callable[..., Any], call: Call) -> Any:
        return call.run(function, **{k: v(call.given[k]) if callable(v) else v for k, v in others.items()})

    return change


def instead(other: Callable[..., Any]) -> Change:
    """Another function of the first argument."""
    return lambda function, call: other(next(iter(call.given.values())))


def number(call: Call, name: str, default: Any) -> Any:
    """Return an argument of a call, or what it is where it was not given."""
    return call.given.get(name, default)


def sides_of(value: Any, rank: int) -> tuple[int, ...]:
    """Return a number for each side of an image, of one that was given for all or one for each."""
    return (value,) * rank if isinstance(value, int) else tuple(value) * (rank if len(value) == 1 else 1)
