"""Tools to plant a fault in one twin or in both, by patching, and to take it out again without a trace."""

import inspect
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple
from unittest.mock import patch

import ae_jax.engine
import ae_jax.execution.dispatch
import ae_jax.training
import ae_torch.engine
import ae_torch.training
from parity_tests.twins import compiled_pass

Patch = tuple[Any, str, Any]
"""What to patch: an object, the name of its attribute, and the faulty value."""


class Fault(NamedTuple):
    """One fault in one twin, or in both at once."""

    twin: str
    """``jax``, ``torch`` or ``both``."""
    case: str
    """The row of `parity_tests.cases.CASES`, of `parity_tests.gates.layers.SINGLE_LAYERS` or, of a fault in both, of
    `parity_tests.gates.truth.TRUTHS`, on which it acts."""
    patches: Callable[[], list[Patch]]


def in_torch(name: str, case: str, patches: Callable[[], list[Patch]]) -> dict[str, Fault]:
    """Name a fault of the PyTorch twin."""
    return {f"{name} (torch)": Fault("torch", case, patches)}


def in_jax(name: str, case: str, patches: Callable[[], list[Patch]]) -> dict[str, Fault]:
    """Name a fault of the JAX twin."""
    return {f"{name} (jax)": Fault("jax", case, patches)}


def in_both(
    name: str, case: str, torch_patches: Callable[[], list[Patch]], jax_patches: Callable[[], list[Patch]]
) -> dict[str, Fault]:
    """Name a fault that either twin may have, one at a time."""
    return in_torch(name, case, torch_patches) | in_jax(name, case, jax_patches)


def in_all(name: str, case: str, patches: Callable[[], list[Patch]]) -> dict[str, Fault]:
    """Name a fault of both twins at once, or of `ae_core`, from which both have it."""
    return {f"{name} (both)": Fault("both", case, patches)}


def at_once(names: Iterable[str], faults: Mapping[str, Fault]) -> dict[str, Fault]:
    """Name faults that either twin may have, as `in_both` has named them, in both at once."""
    found: dict[str, Fault] = {}
    for name in names:
        pair = faults[f"{name} (torch)"], faults[f"{name} (jax)"]
        found |= in_all(name, pair[0].case, partial(_joined, *pair))
    return found


def _joined(one: Fault, other: Fault) -> list[Patch]:
    return [*one.patches(), *other.patches()]


@contextmanager
def planted(fault: Fault) -> Iterator[None]:
    """Plant a fault for a while. What was compiled without it is forgotten before, and what with it, after."""
    with ExitStack() as stack:
        if fault.twin != "torch":
            forget()
            stack.callback(forget)
        for target, name, value in fault.patches():
            stack.enter_context(patch.object(target, name, value))
        yield


def forget() -> None:
    """Let go of every program that was compiled, and of whatever else is kept of models."""
    compiled_pass.cache_clear()
    for module in [module for name, module in sys.modules.items() if name.startswith(("ae_jax.", "ae_core."))]:
        for value in vars(module).values():
            if hasattr(value, "cache_clear"):
                value.cache_clear()


def constructor(module: Any, name: str, **changed: Callable[[Any], Any]) -> list[Patch]:
    """Change arguments of a layer where `make_norm` and its like construct it."""
    original = getattr(module, name)
    linen = getattr(original, "__dataclass_fields__", None)
    fields = list(linen) if linen else list(inspect.signature(original.__init__).parameters)[1:]  # without self

    def construct(*values: Any, **given: Any) -> Any:
        given = dict(zip(fields, values, strict=False)) | given
        return original(**{key: changed[key](value) if key in changed else value for key, value in given.items()})

    return [(module, name, construct)]


def after(target: Any, name: str, change: Callable[..., Any]) -> list[Patch]:
    """Let ``change(result, *arguments)`` have the last word on a function's result."""
    original = getattr(target, name)
    return [(target, name, lambda *a, **k: change(original(*a, **k), *a, **k))]


def before(target: Any, name: str, change: Callable[..., tuple[Any, ...]]) -> list[Patch]:
    """Let ``change(*arguments)`` replace a function's arguments."""
    original = getattr(target, name)
    return [(target, name, lambda *a, **k: original(*change(*a), **k))]


def steps(change: Callable[[Any, Any], Any], engine: Any) -> list[Patch]:
    """Change the steps that a twin's trainer receives: ``change(steps, spec)``."""
    return before(engine.Trainer, "advance", lambda self, steps: (self, change(steps, self.spec)))


def hyper_torch(**changed: Any) -> list[Patch]:
    """Change a hyper-parameter of the PyTorch twin's optimiser."""
    return before(ae_torch.training, "make_optimizer", lambda optimizer, *rest: (replace(optimizer, **changed), *rest))


def hyper_jax(**changed: Any) -> list[Patch]:
    """Change a hyper-parameter of the JAX twin's optimiser."""
    return before(
        ae_jax.training,
        "make_optimizer",
        lambda training: (replace(training, optimizer=replace(training.optimizer, **changed)),),
    )


def drawn_torch(change: Callable[[Any, int], Any]) -> list[Patch]:
    """Change the noise that the PyTorch twin draws: ``change(noise, axis of rows)``."""
    return after(ae_torch.engine, "draw", lambda noise, *a, **k: change(noise, 1))


def drawn_jax(change: Callable[[Any, int], Any]) -> list[Patch]:
    """Change the noise that the JAX twin draws: ``change(noise, axis of rows)``."""
    return after(ae_jax.execution.dispatch, "draw", lambda noise, *a, **k: change(noise, 0))
