"""What a pair is, and the file that brings one."""

import runpy
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Shaped

from ae_core.errors import UserError

Array = Shaped[np.ndarray, "..."]


class PairError(UserError):
    """A pair, or a file that brings one, that cannot be compared."""


@dataclass(frozen=True, kw_only=True)
class Pair:
    """Two models that are meant to be the same function."""

    jax_apply: Any
    """``jax_apply(params, *inputs)`` returns an array, or a tree of arrays."""
    jax_params: Any
    """Tree of arrays: a nested dict, Flax variables, an NNX state, an Equinox module."""
    torch_module: Any
    """A torch.nn.Module. It is copied, never changed; its mode, training or evaluation, is kept."""
    inputs: Any
    """Tuple of NumPy arrays. Floats are compared in both precisions; integers stay as they are."""
    torch_inputs: Any = None
    """The same numbers as PyTorch takes them, such as images with channels first; ``inputs`` where absent."""
    names: Mapping[str, Any] | None = None
    """PyTorch's name of a module or tensor → JAX's path; a pair (path or paths, function of the arrays there) where no
    axis rule fits. What it leaves out is matched by name."""
    jax_taps: Callable[..., Any] | None = None
    """``jax_taps(params, *inputs)`` returns intermediates by PyTorch's name of the module whose output they are."""
    jax_loss: Callable[..., Any] | None = None
    """``jax_loss(output, *inputs)`` returns a scalar; half the mean square against fixed targets where absent."""
    torch_loss: Callable[..., Any] | None = None
    """``torch_loss(output, *inputs)``; goes with ``jax_loss``."""
    jax_optimizer: Any = None
    """An optax transformation, in place of a named optimiser; goes with ``torch_optimizer``."""
    torch_optimizer: Callable[..., torch.optim.Optimizer] | None = None
    """``torch_optimizer(parameters)`` returns PyTorch's optimiser."""
    returns_state: bool = False
    """Whether ``jax_apply`` returns (output, state): a tree with paths of ``jax_params``, as after one pass in training
    mode; compared with the module's buffers after the same pass."""

    def __post_init__(self) -> None:
        for one, other in (("jax_loss", "torch_loss"), ("jax_optimizer", "torch_optimizer")):
            if (getattr(self, one) is None) != (getattr(self, other) is None):
                raise PairError(f"given one of {one} and {other}; expected both or neither")
        for name in ("jax_apply", "jax_taps", "jax_loss", "torch_loss", "torch_optimizer"):
            value = getattr(self, name)
            if value is not None and not callable(value):
                raise PairError(f"{name}: given {type(value).__name__}; expected a function")
        if not isinstance(self.torch_module, torch.nn.Module):
            raise PairError(f"torch_module: given {type(self.torch_module).__name__}; expected a torch.nn.Module")
        for name in ("inputs", "torch_inputs"):
            value = getattr(self, name)
            if name == "torch_inputs" and value is None:
                continue
            if not (isinstance(value, tuple) and value and all(isinstance(x, np.ndarray) for x in value)):
                raise PairError(f"{name}: given {_kind(value)}; expected a tuple of NumPy arrays")
        if len(self.own_inputs) != len(self.inputs):
            raise PairError(
                f"torch_inputs: given {len(self.own_inputs)}; expected {len(self.inputs)}, as many as inputs"
            )
        for i, (ours, theirs) in enumerate(zip(self.inputs, self.own_inputs, strict=True)):
            if ours.size != theirs.size or ours.dtype != theirs.dtype:
                given = f"{list(theirs.shape)} of {theirs.dtype}"
                raise PairError(
                    f"torch_inputs[{i}]: given {given}; expected the numbers of inputs[{i}], {_shape(ours)}"
                )

    @property
    def own_inputs(self) -> tuple[Array, ...]:
        """The inputs as PyTorch takes them."""
        given: tuple[Array, ...] = self.inputs if self.torch_inputs is None else self.torch_inputs
        return given


NAMES = tuple(field.name for field in fields(Pair))
REQUIRED = ("jax_apply", "jax_params", "torch_module", "inputs")


def load_pair(path: Path) -> Pair:
    """Run a Python file and return the pair that it defines.

    Raises:
        PairError: there is no such file, it fails, or it does not define what a pair needs.
    """
    if not path.is_file():
        raise PairError(f"{path}: no such file; expected a Python file that defines {', '.join(REQUIRED)}")
    try:
        found = runpy.run_path(str(path), run_name="pair")
    except UserError:
        raise
    except (Exception, SystemExit) as error:
        raise PairError(f"{path}: fails with {type(error).__name__}: {error or 'no message'}") from error
    missing = [name for name in REQUIRED if name not in found]
    if missing:
        raise PairError(f"{path}: does not define {', '.join(missing)}")
    try:
        return Pair(**{name: found[name] for name in NAMES if name in found})
    except PairError as error:
        raise PairError(f"{path}: {error}") from None


def _shape(array: Array) -> str:
    return f"{list(array.shape)} of {array.dtype}"


def _kind(value: Any) -> str:
    if isinstance(value, tuple):
        return f"a tuple of {', '.join(type(x).__name__ for x in value) or 'nothing'}"
    return type(value).__name__
