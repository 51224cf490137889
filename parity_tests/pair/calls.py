"""What a PyTorch module does, call by call: every function it calls, and what comes out if one is changed."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch.overrides import TorchFunctionMode

from parity_tests.pair.taps import numbered

SIGNATURES = {
    "linear": ("input", "weight", "bias"),
    "embedding": ("input", "weight"),
    **dict.fromkeys(
        ("conv1d", "conv2d", "conv3d"), ("input", "weight", "bias", "stride", "padding", "dilation", "groups")
    ),
    **dict.fromkeys(
        ("conv_transpose1d", "conv_transpose2d", "conv_transpose3d"),
        ("input", "weight", "bias", "stride", "padding", "output_padding", "groups", "dilation"),
    ),
    "layer_norm": ("input", "normalized_shape", "weight", "bias", "eps"),
    "rms_norm": ("input", "normalized_shape", "weight", "eps"),
    "group_norm": ("input", "num_groups", "weight", "bias", "eps"),
    "batch_norm": ("input", "running_mean", "running_var", "weight", "bias", "training", "momentum", "eps"),
    "instance_norm": ("input", "running_mean", "running_var", "weight", "bias", "use_input_stats", "momentum", "eps"),
    "gelu": ("input",),
    "leaky_relu": ("input", "negative_slope"),
    "elu": ("input", "alpha"),
    "softmax": ("input", "dim"),
    "log_softmax": ("input", "dim"),
    "dropout": ("input", "p", "training"),
    "var": ("input", "dim"),
    "std": ("input", "dim"),
    "interpolate": ("input", "size", "scale_factor", "mode", "align_corners"),
    "max_pool2d": ("input", "kernel_size", "stride", "padding", "dilation", "ceil_mode"),
    "avg_pool2d": ("input", "kernel_size", "stride", "padding", "ceil_mode", "count_include_pad"),
    "scaled_dot_product_attention": ("query", "key", "value", "attn_mask", "dropout_p", "is_causal"),
    "cat": ("tensors", "dim"),
}
"""Of positional arguments; arguments by keyword are known by their keyword."""

Change = Callable[[Callable[..., Any], "Call"], Any]
"""Runs a function in another way: gets the function and the call."""


class Call(NamedTuple):
    """One call of a PyTorch function."""

    number: int
    """In the order of one pass; the same in every pass over the same inputs."""
    function: str
    module: str
    """Path of the innermost module that called it."""
    given: dict[Any, Any]
    """Arguments by name; those whose name is not known by their place."""
    done: int
    """How many modules had returned before."""

    def run(self, function: Callable[..., Any], **others: Any) -> Any:
        """Run a function with these arguments, some replaced."""
        given = self.given | others
        places = [given.pop(key) for key in list(given) if isinstance(key, int)]
        names = SIGNATURES.get(self.function, ())
        if not places and names and names[0] in given:
            return function(given.pop(names[0]), **given)
        return function(*places, **given)


class Calls(TorchFunctionMode):
    """Numbers the functions that a module calls, and runs some of them in another way."""

    def __init__(self, changes: Mapping[int, Change], keep: bool = False) -> None:
        super().__init__()
        self.changes, self.keep = changes, keep
        self.found: list[Call] = []
        self.stack: list[str] = [""]
        self.taps: dict[str, torch.Tensor] = {}
        self.returned: dict[str, int] = {}
        self.resting = False
        self._number = 0

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = getattr(func, "__name__", "")
        if self.resting or name in _SILENT:
            return func(*args, **(kwargs or {}))
        number, self._number = self._number, self._number + 1
        if not self.keep and number not in self.changes:
            return func(*args, **(kwargs or {}))
        call = Call(number, name, self.stack[-1], _bound(name, args, kwargs or {}), len(self.taps))
        if self.keep:
            self.found.append(call)
        change = self.changes.get(number)
        return func(*args, **(kwargs or {})) if change is None else change(func, call)


_SILENT = ("__get__", "__set__", "size", "dim", "__len__", "is_floating_point", "numel", "__bool__", "__repr__")


def _bound(name: str, args: Any, kwargs: Mapping[str, Any]) -> dict[Any, Any]:
    names = SIGNATURES.get(name, ())
    if len(args) > len(names):
        return {**dict(enumerate(args)), **kwargs}
    return {**dict(zip(names, args, strict=False)), **kwargs}


@contextmanager
def tapped(module: torch.nn.Module, calls: Calls) -> Iterator[None]:
    """Let every submodule leave its output, by path; as `taps.with_taps` names them."""

    def before(name: str) -> Callable[..., None]:
        return lambda module, args: calls.stack.append(name)

    def after(name: str) -> Callable[..., None]:
        def keep(module: Any, args: Any, output: Any) -> None:
            calls.stack.pop()
            calls.returned[name] = calls.returned.get(name, 0) + 1
            calls.resting = True  # what follows is no call of the module's
            leaves = [leaf.detach().clone() for leaf in tensors_of(output)]  # what comes next may change it in place
            calls.resting = False
            own = numbered(name, calls.returned[name])
            for i, leaf in enumerate(leaves):
                calls.taps[f"{own}[{i}]" if len(leaves) > 1 else own] = leaf

        return keep

    hooks = []
    for name, part in module.named_modules():
        if name:
            hooks += [part.register_forward_pre_hook(before(name)), part.register_forward_hook(after(name))]
    try:
        with calls:
            yield
    finally:
        for hook in hooks:
            hook.remove()


def tensors_of(tree: Any) -> Iterator[torch.Tensor]:
    """Walk a tree of tensors in the order in which JAX does: of a dict by its keys."""
    if isinstance(tree, torch.Tensor):
        yield tree
    elif isinstance(tree, Mapping):
        for key in sorted(tree):
            yield from tensors_of(tree[key])
    elif isinstance(tree, (list, tuple)):
        for part in tree:
            yield from tensors_of(part)
    elif hasattr(tree, "__dataclass_fields__"):
        for name in tree.__dataclass_fields__:
            yield from tensors_of(getattr(tree, name))


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


def both_changes(first: Change, second: Change) -> Change:
    """Return the second change of a call, which gets the arguments that the first one leaves."""

    def change(function: Callable[..., Any], call: Call) -> Any:
        def changed(*args: Any, **kwargs: Any) -> Any:
            return second(function, call._replace(given=_bound(call.function, args, kwargs)))

        return first(changed, call)

    return change
