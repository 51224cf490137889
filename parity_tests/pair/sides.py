"""Both sides of a pair, asked the same questions, answering in NumPy: PyTorch's names, each side's own layout."""

import copy
from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import torch

from parity_tests import quickly
from parity_tests.pair.calls import Call, Calls, Change, tapped, tensors_of
from parity_tests.pair.carry import Matches
from parity_tests.pair.pair import Array, Pair, PairError
from parity_tests.pair.taps import with_taps
from parity_tests.pair.tree import Tree, take_apart

Arrays = dict[str, Array]


class Backward(NamedTuple):
    """What one pass forward and backward leaves."""

    loss: float
    parameters: Arrays
    """Gradients, PyTorch's layout."""
    inputs: list[Array]
    """Gradients by the float inputs, each side's own layout."""


class Optimizer(NamedTuple):
    """An optimiser, twice, with every number that the frameworks choose differently."""

    jax: Any
    torch: Callable[..., torch.optim.Optimizer]


class JaxSide:
    """The JAX function with its weights, at one precision."""

    def __init__(self, pair: Pair, tree: Tree, arrays: Mapping[str, Array], matches: Matches, precision: str) -> None:
        self.pair, self.tree, self.matches, self.precision = pair, tree, matches, precision
        with jax.enable_x64(precision == "float64"):
            self.arrays = {name: jnp.asarray(array, precision) for name, array in arrays.items()}
            self.inputs = tuple(jnp.asarray(_cast(x, precision)) for x in pair.inputs)

    def _apply(self, arrays: Mapping[str, Any], *inputs: Any) -> tuple[Any, Any]:
        out = self.pair.jax_apply(self.tree.filled(arrays), *inputs)
        if not self.pair.returns_state:
            return out, None
        if not (isinstance(out, tuple) and len(out) == 2):
            raise PairError("returns_state: jax_apply did not return (output, state)")
        return out

    def forward(self) -> tuple[list[Array], Arrays, Arrays]:
        """Return outputs, intermediates and the state after the pass, all by JAX's names."""
        with jax.enable_x64(self.precision == "float64"):
            (out, state), taps = self._compiled(with_taps(self._apply))(self.arrays, *self.inputs)
            if self.pair.jax_taps is not None:
                given = self.pair.jax_taps
                taps = self._compiled(lambda arrays, *x: given(self.tree.filled(arrays), *x))(self.arrays, *self.inputs)
            found = {} if state is None else take_apart(state, self.tree.collections).arrays()
            return [np.asarray(leaf) for leaf in jax.tree.leaves(out)], _numpy(taps), found

    @cached_property
    def _slopes(self) -> Callable[..., Any]:
        """The loss and its gradients by arrays and by float inputs, compiled once."""
        floats = self._floats

        def loss(arrays: Mapping[str, Any], chosen: list[Any], targets: list[Any]) -> Any:
            inputs = list(self.inputs)
            for i, x in zip(floats, chosen, strict=True):
                inputs[i] = x
            out, _ = self._apply(arrays, *inputs)
            if self.pair.jax_loss is not None:
                return self.pair.jax_loss(out, *inputs)
            leaves = jax.tree.leaves(out)
            return sum(((y - t) ** 2).mean() for y, t in zip(leaves, targets, strict=True)) / 2

        return self._compiled(jax.value_and_grad(loss, (0, 1)))

    def _compiled(self, function: Callable[..., Any]) -> Callable[..., Any]:
        return jax.jit(function, compiler_options=quickly.options() if self.precision == "float64" else {})

    @property
    def _floats(self) -> list[int]:
        return [i for i, x in enumerate(self.inputs) if jnp.issubdtype(x.dtype, jnp.floating)]

    def backward(self, targets: list[Array]) -> Backward:
        """Return the loss and its gradients."""
        with jax.enable_x64(self.precision == "float64"):
            value, (by_array, by_input) = self._slopes(self.arrays, [self.inputs[i] for i in self._floats], targets)
            return Backward(float(value), self._torch_layout(by_array), [np.asarray(x) for x in by_input])

    def train(self, optimizer: Any, steps: int, targets: list[Array], still: frozenset[str]) -> Arrays:
        """Return the parameters after so many steps; those of PyTorch's names in ``still``, and state, stay."""
        parameters = {name for name, _ in self.pair.torch_module.named_parameters()} - still
        moving = {source for name in parameters for source in self.matches.tensors[name].sources}
        with jax.enable_x64(self.precision == "float64"):

            def step(slopes: Any, state: Any, arrays: Any) -> tuple[Any, Any]:
                updates, state = optimizer.update(slopes, state, arrays)
                return optax.apply_updates(arrays, updates), state

            update = self._compiled(step)
            chosen, arrays = [self.inputs[i] for i in self._floats], dict(self.arrays)
            state = optimizer.init({name: arrays[name] for name in moving})
            for _ in range(steps):
                _, (slopes, _) = self._slopes(arrays, chosen, targets)
                only = [{name: tree[name] for name in moving} for tree in (slopes, arrays)]
                moved, state = update(only[0], state, only[1])
                arrays |= moved
            return self._torch_layout(arrays)

    def _torch_layout(self, arrays: Mapping[str, Any]) -> Arrays:
        host = _numpy(arrays)
        return {name: match.take(host) for name, match in self.matches.tensors.items()}


class TorchSide:
    """A copy of the PyTorch module with JAX's weights, at one precision.

    ``factor`` is what its own loss is multiplied by.
    """

    def __init__(self, pair: Pair, arrays: Mapping[str, Array], matches: Matches, precision: str) -> None:
        self.pair, self.precision, self.factor = pair, precision, 1.0
        dtype = getattr(torch, precision)
        # a frozen parameter has a gradient in JAX
        self.module = copy.deepcopy(pair.torch_module).to(dtype).requires_grad_(True)
        self._fill(self.module, matches, arrays, dtype)
        self.start = copy.deepcopy(self.module.state_dict())
        self.inputs = [torch.from_numpy(_cast(x, precision).copy()) for x in pair.own_inputs]

    @staticmethod
    @torch.no_grad()
    def _fill(module: torch.nn.Module, matches: Matches, arrays: Mapping[str, Array], dtype: torch.dtype) -> None:
        own = module.state_dict(keep_vars=True)
        for name, match in matches.tensors.items():
            own[name].copy_(torch.from_numpy(match.take(arrays)).to(dtype))

    def _restart(self) -> None:
        self.module.load_state_dict(self.start)
        torch.manual_seed(0)

    def forward(
        self, changes: Mapping[int, Change], keep: bool = False
    ) -> tuple[list[Array], Arrays, Arrays, list[Call]]:
        """Return outputs, intermediates, buffers after the pass, and, where kept, every call with its arguments."""
        self._restart()
        calls = Calls(changes, keep)
        with torch.no_grad(), tapped(self.module, calls):
            out = self.module(*self.inputs)
        buffers = {name: t.numpy().copy() for name, t in self.module.named_buffers() if t.is_floating_point()}
        taps = {name: t.numpy() for name, t in calls.taps.items()}
        return [t.numpy() for t in tensors_of(out)], taps, buffers, calls.found

    def _loss(self, inputs: list[torch.Tensor], changes: Mapping[int, Change], targets: list[Array]) -> torch.Tensor:
        with Calls(changes):
            out = self.module(*inputs)
        if self.pair.torch_loss is not None:
            return self.factor * self.pair.torch_loss(out, *inputs)
        leaves = list(tensors_of(out))
        return (
            sum(
                (((y - torch.from_numpy(t)) ** 2).mean() for y, t in zip(leaves, targets, strict=True)),
                start=torch.zeros((), dtype=self.inputs_dtype),
            )
            / 2
        )

    @property
    def inputs_dtype(self) -> torch.dtype:
        """Of floats."""
        return getattr(torch, self.precision)

    def backward(self, targets: list[Array], changes: Mapping[int, Change]) -> Backward:
        """Return the loss and its gradients; of a parameter that the loss does not reach, 0."""
        self._restart()
        inputs = [x.clone().requires_grad_(x.is_floating_point()) for x in self.inputs]
        floats = [x for x in inputs if x.requires_grad]
        parameters = dict(self.module.named_parameters())
        loss = self._loss(inputs, changes, targets)
        slopes = torch.autograd.grad(loss, [*parameters.values(), *floats], allow_unused=True, materialize_grads=True)
        named = dict(zip(parameters, (s.numpy() for s in slopes[: len(parameters)]), strict=True))
        return Backward(float(loss.detach()), named, [s.numpy() for s in slopes[len(parameters) :]])

    def train(
        self,
        optimizer: Callable[..., torch.optim.Optimizer],
        steps: int,
        targets: list[Array],
        still: frozenset[str],
        changes: Mapping[int, Change],
    ) -> Arrays:
        """Return the parameters after so many steps."""
        self._restart()
        parameters = dict(self.module.named_parameters())
        chosen = optimizer([p for name, p in parameters.items() if name not in still])
        for _ in range(steps):
            chosen.zero_grad()
            self._loss(self.inputs, changes, targets).backward()
            chosen.step()
        result = {name: p.detach().numpy().copy() for name, p in parameters.items()}
        self.module.zero_grad()
        self._restart()
        return result


def _cast(array: Array, precision: str) -> Array:
    return array.astype(precision) if np.issubdtype(array.dtype, np.floating) else array


def _numpy(arrays: Mapping[str, Any]) -> Arrays:
    return {name: np.asarray(array) for name, array in arrays.items()}
