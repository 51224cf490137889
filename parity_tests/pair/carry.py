"""Weights travel from JAX to PyTorch: which tensor is which, and how its axes turn.

Flax keeps a kernel as [*sides, in, out], and an embedding, a scale and a bias as PyTorch does; Equinox keeps all as
PyTorch does, except what a transposed convolution's weight is. Flax's attention keeps its heads as axes of their own.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from torch.nn.modules.conv import _ConvTransposeNd  # PyTorch gives transposed convolutions no public base

from parity_tests.pair.pair import Array, PairError
from parity_tests.pair.tree import natural, parts_of, plain

LEAVES = {"kernel": "weight", "scale": "weight", "embedding": "weight", "mean": "running_mean", "var": "running_var"}
"""What PyTorch calls a tensor that JAX calls so; others have one name in both."""
_HEADS = ("query", "key", "value")


class Match(NamedTuple):
    """One tensor of PyTorch and where it is in JAX."""

    sources: tuple[str, ...]
    turn: Callable[..., Array]
    """Makes PyTorch's array of the arrays there; linear, so that gradients travel the same way."""

    def take(self, arrays: Mapping[str, Array]) -> Array:
        """Return PyTorch's array."""
        return np.array(self.turn(*(arrays[name] for name in self.sources)), order="C")  # JAX's own are read-only


class Matches(NamedTuple):
    """Which tensor is which."""

    tensors: dict[str, Match]
    """By PyTorch's name."""
    unused: tuple[str, ...]
    """Arrays of JAX that no tensor of PyTorch takes."""
    own: tuple[str, ...]
    """Buffers of PyTorch that JAX has nothing of; they keep their numbers."""

    def modules(self) -> dict[str, str]:
        """Return the modules that hold matched tensors, PyTorch's name → JAX's."""
        found: dict[str, set[str]] = {}
        for name, match in self.tensors.items():
            owners = {source.rpartition(".")[0] for source in match.sources}
            if len(owners) > 1:  # heads of an attention, each a module
                owners = {owner.rpartition(".")[0] for owner in owners}
            found.setdefault(name.rpartition(".")[0], set()).update(owners)
        # whose tensors come from several places is no module of JAX
        return {name: owners.pop() for name, owners in found.items() if len(owners) == 1}


def match(module: torch.nn.Module, arrays: Mapping[str, Array], names: Mapping[str, Any]) -> Matches:
    """Find for each float tensor of a module the array, or arrays, of JAX that it is.

    Raises:
        PairError: a name stands for nothing, or a parameter of PyTorch is left without its array.
    """
    tensors = {name: t for name, t in module.state_dict(keep_vars=True).items() if t.is_floating_point()}
    modules = dict(module.named_modules())
    _check(names, tensors, modules)
    buffers = {name for name, _ in module.named_buffers()}
    found: dict[str, Match] = {}
    misfits: list[str] = []
    own: list[str] = []
    for name, tensor in tensors.items():
        owner = modules[name.rpartition(".")[0]]
        sources, turn = _sources(name, arrays, names)
        if turn is not None:
            found[name] = Match(sources, turn)
        elif sources:
            turned = axis_rule(name, owner, tuple(tensor.shape), {source: arrays[source] for source in sources})
            if turned is not None:
                found[name] = Match(sources, turned)
                continue
            shapes = ", ".join(f"{source} {list(arrays[source].shape)}" for source in sources)
            misfits.append(f"{name} {list(tensor.shape)}: no axis rule makes it of {shapes}")
        elif name in buffers:
            own.append(name)
        else:
            misfits.append(f"{name} {list(tensor.shape)}: nothing in JAX has its name")
    if misfits:
        more = f" and {len(misfits) - 3} more" if len(misfits) > 3 else ""
        draft = _draft(tensors, modules, arrays)
        raise PairError(f"names: {'; '.join(misfits[:3])}{more}; {draft}")
    used = {source for one in found.values() for source in one.sources}
    return Matches(found, tuple(sorted(arrays.keys() - used, key=natural)), tuple(own))


def _check(names: Mapping[str, Any], tensors: Mapping[str, Any], modules: Mapping[str, Any]) -> None:
    for name in names:
        if name not in tensors and name not in modules:
            raise PairError(f'names: PyTorch has no module and no tensor "{name}"; modules: {", ".join(modules)}')


def _sources(
    name: str, arrays: Mapping[str, Array], names: Mapping[str, Any]
) -> tuple[tuple[str, ...], Callable[..., Array] | None]:
    """Return where a tensor is in JAX, nowhere if unknown, and the user's own rule where he gave one."""
    turn = None
    parts = name.split(".")
    for length in range(len(parts), -1, -1):
        prefix = ".".join(parts[:length])
        if prefix in names:
            given = names[prefix]
            if isinstance(given, tuple):
                given, turn = given
            wanted = (given,) if isinstance(given, str) else tuple(given)
            if length == len(parts):
                return tuple(_exact(name, path, arrays) for path in wanted), turn
            return _by_name([*parts_of(wanted[0]), *parts[length:]], arrays), turn
    return _by_name(parts, arrays), None


def _exact(name: str, path: str, arrays: Mapping[str, Array]) -> str:
    parts = parts_of(path)
    for tail in (parts, parts[1:]):  # with the name of a collection in front, or without
        if ".".join(tail) in arrays:
            return ".".join(tail)
    raise PairError(f'names: {name} stands for "{path}", which JAX does not have; it has {", ".join(arrays)}')


def _by_name(parts: list[str], arrays: Mapping[str, Array]) -> tuple[str, ...]:
    module, leaf = plain(".".join(parts[:-1])), parts[-1]
    tails: tuple[str, ...] = (module, module.partition(".")[2])  # of a collection's name the first part
    if leaf in ("in_proj_weight", "in_proj_bias"):
        kind = leaf.rpartition("_")[2]
        for tail in tails:
            heads = [_found(f"{tail}.{head}", kind, arrays) for head in _HEADS]
            if all(heads):
                return tuple(head for head in heads if head)
        return ()
    if module.endswith(".out_proj"):  # PyTorch's attention; in Flax it is "out"
        tails += tuple(f"{tail.removesuffix('.out_proj')}.out" for tail in tails)
    for tail in tails:
        source = _found(tail, leaf, arrays)
        if source:
            return (source,)
    return ()


def _found(module: str, leaf: str, arrays: Mapping[str, Array]) -> str | None:
    for name in arrays:
        owner, _, own = name.rpartition(".")
        if plain(owner) == module and leaf in (own, LEAVES.get(own)):
            return name
    return None


def axis_rule(
    name: str, owner: torch.nn.Module, shape: tuple[int, ...], arrays: Mapping[str, Array]
) -> Callable[..., Array] | None:
    """Return what turns arrays of JAX into a tensor of that shape, or None where no rule does.

    A square kernel of a transposed convolution is taken as one of Flax's default, which PyTorch flips.

    Args:
        name: of PyTorch's tensor.
        owner: the module that holds it.
        shape: of the tensor.
        arrays: of JAX, by path: the last part of a path says whose layout it is.
    """
    leaf = name.rpartition(".")[2]
    if leaf in ("in_proj_weight", "in_proj_bias"):
        rule, rows = (_linear if leaf.endswith("weight") else _flat), (shape[0] // 3, *shape[1:])
        parts = [part for part in (rule(rows, array) for array in arrays.values()) if part]
        if len(parts) != len(_HEADS):
            return None
        return lambda *given: np.concatenate([part(one) for part, one in zip(parts, given, strict=True)])
    if len(arrays) != 1:
        return None
    ((source, array),) = arrays.items()
    own = source.rpartition(".")[2]
    if leaf == "weight" and isinstance(owner, _ConvTransposeNd):
        return _transposed(shape, array, own)
    if own == "kernel":
        return _linear(shape, array) if len(shape) == 2 else _kernel(shape, array)
    if own not in LEAVES and own != leaf and array.shape != shape:  # of someone's own name
        return _linear(shape, array) if len(shape) == 2 else _kernel(shape, array)
    return _flat(shape, array)


def _kernel(shape: tuple[int, ...], array: Array) -> Callable[[Array], Array] | None:
    turn = lambda a: np.moveaxis(a, (-1, -2), (0, 1))  # noqa: E731 [*sides, in, out]
    return turn if array.ndim == len(shape) and turn(array).shape == shape else None


def _flat(shape: tuple[int, ...], array: Array) -> Callable[[Array], Array] | None:
    """As it is, up to axes of length 1 and heads."""
    if array.size != int(np.prod(shape)):
        return None
    return lambda a: a.reshape(shape)


def _linear(shape: tuple[int, ...], array: Array) -> Callable[[Array], Array] | None:
    rows, columns = shape
    if array.ndim == 2:
        return (lambda a: a.T) if array.shape == (columns, rows) else None
    if array.ndim > 2 and array.shape[0] == columns and array.size == rows * columns:
        return lambda a: a.reshape(columns, rows).T  # [in, heads, depth]
    if array.ndim > 2 and array.shape[-1] == rows and array.size == rows * columns:
        return lambda a: a.reshape(columns, rows).T  # [heads, depth, out]
    return None


def _transposed(shape: tuple[int, ...], array: Array, own: str) -> Callable[[Array], Array] | None:
    sides = tuple(range(2, len(shape)))
    rules: list[Callable[[Array], Array]] = [
        lambda a: np.flip(np.moveaxis(a, (-2, -1), (0, 1)), sides),  # [*sides, in, out]
        lambda a: np.moveaxis(a, (-1, -2), (0, 1)),  # [*sides, out, in], with transpose_kernel=True
    ]
    if own == "weight":  # of Equinox: [out, in, *sides]
        rules = [lambda a: np.flip(np.swapaxes(a, 0, 1), sides)]
    return next((rule for rule in rules if array.ndim == len(shape) and rule(array).shape == shape), None)


def _draft(
    tensors: Mapping[str, torch.Tensor], modules: Mapping[str, torch.nn.Module], arrays: Mapping[str, Array]
) -> str:
    """Say which modules could be which by order and shape, for the user to judge."""
    groups: dict[str, list[str]] = {}
    for name in sorted(arrays, key=natural):
        groups.setdefault(name.rpartition(".")[0], []).append(name)
    left, draft = dict(groups), {}
    for owner, module in modules.items():
        own = [name for name in tensors if name.rpartition(".")[0] == owner]
        for group, members in left.items():
            if own and all(
                any(axis_rule(name, module, tuple(tensors[name].shape), {member: arrays[member]}) for member in members)
                for name in own
            ):
                draft[owner] = group
                del left[group]
                break
    shown = ", ".join(f'"{ours}": "{theirs}"' for ours, theirs in draft.items())
    return f"by order and shape perhaps names = {{{shown}}}" if draft else f"JAX has {', '.join(arrays)}"


def moved(arrays: Mapping[str, Array], seed: int) -> dict[str, Array]:
    """Return the arrays, those of one number throughout moved by noise of 0.1: zeros and ones hide a swap.

    A variance stays above 0: it is multiplied by exp(noise).
    """
    rng = np.random.default_rng(seed)
    result = {}
    for name, array in sorted(arrays.items()):
        noise = 0.1 * rng.standard_normal(array.shape)
        if array.size and (array == array.flat[0]).all():
            positive = name.rpartition(".")[2] in ("var", "running_var")
            array = (array * np.exp(noise) if positive else array + noise).astype(array.dtype)
        result[name] = array
    return result
