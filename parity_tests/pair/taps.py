"""Every intermediate of a JAX function: what each Flax or Equinox module returned, by the module's path.

A module's output is marked with a primitive that does nothing but carry a name, through jit, vmap and checkpointing
alike; an interpreter of the traced program then keeps what is marked. What happens inside a loop (scan, while) has no
single value and is left out.
"""

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

import flax.linen
import jax
import jax.numpy as jnp
from jax.extend.core import ClosedJaxpr, Jaxpr, Literal, Primitive
from jax.interpreters import ad, batching, mlir

_mark = Primitive("mark")
_mark.def_impl(lambda x, *, name: x)
_mark.def_abstract_eval(lambda x, *, name: x)
ad.primitive_jvps[_mark] = lambda primals, tangents, *, name: (_mark.bind(primals[0], name=name), tangents[0])
# samples come first, as in PyTorch
batching.primitive_batchers[_mark] = lambda args, dims, *, name: (
    _mark.bind(jnp.moveaxis(args[0], dims[0], 0), name=name),
    0,
)
mlir.register_lowering(_mark, lambda context, x, *, name: [x])


CALLS = ("jit", "pjit", "closed_call", "core_call", "checkpoint", "remat2", "custom_jvp_call", "custom_vjp_call")
"""Primitives that run a program once, as it is."""


def with_taps(apply: Callable[..., Any]) -> Callable[..., tuple[Any, dict[str, Any]]]:
    """Return the function that also returns its modules' outputs, by path, in the order in which they were ready.

    A module that is called again has "#2" and so on behind its path. Of an output that is a tree, the leaves have
    their place behind it: ``encoder[1]``.
    """

    def run(*arguments: Any) -> tuple[Any, dict[str, Any]]:
        leaves, structure = jax.tree.flatten(arguments)
        shapes: list[Any] = []

        def flat(*leaves: Any) -> list[Any]:
            with _marking():
                out, outline = jax.tree.flatten(apply(*jax.tree.unflatten(structure, leaves)))
            shapes.append(outline)
            return out

        program = jax.make_jaxpr(flat)(*leaves)
        found: dict[str, Any] = {}
        out = _evaluate(program.jaxpr, program.consts, leaves, found)
        return jax.tree.unflatten(shapes[0], out), found

    return run


def _evaluate(program: Jaxpr, consts: Any, inputs: Any, found: dict[str, Any]) -> list[Any]:
    values: dict[Any, Any] = {
        **dict(zip(program.constvars, consts, strict=True)),
        **dict(zip(program.invars, inputs, strict=True)),
    }
    read = lambda atom: atom.val if isinstance(atom, Literal) else values[atom]  # noqa: E731
    for equation in program.eqns:
        given = [read(atom) for atom in equation.invars]
        inner = _inner(equation.params) if equation.primitive.name in CALLS else None
        if equation.primitive is _mark:
            found[equation.params["name"]] = given[0]
            results = given
        elif inner is not None:
            results = _evaluate(inner.jaxpr, inner.consts, given, found)
        else:
            results = equation.primitive.bind(*given, **equation.primitive.get_bind_params(equation.params))
            results = results if equation.primitive.multiple_results else [results]
        values.update(zip(equation.outvars, results, strict=True))
    return [read(atom) for atom in program.outvars]


def _inner(parameters: Mapping[str, Any]) -> ClosedJaxpr | None:
    """Return the program that a call runs."""
    for name in ("jaxpr", "call_jaxpr", "fun_jaxpr"):
        program = parameters.get(name)
        if isinstance(program, ClosedJaxpr):
            return program
        if isinstance(program, Jaxpr):
            return ClosedJaxpr(program, ())
    return None


class _Names:
    """Gives each call of a module its name."""

    def __init__(self) -> None:
        self.calls: dict[str, int] = {}
        self.paths: dict[int, str] = {}
        self.running: set[int] = set()
        self.kept: list[Any] = []

    def mark(self, path: str, output: Any) -> Any:
        self.calls[path] = self.calls.get(path, 0) + 1
        name = numbered(path, self.calls[path])
        leaves, structure = jax.tree.flatten(output)
        many = len(leaves) > 1
        marked = [_marked(leaf, f"{name}[{i}]" if many else name) for i, leaf in enumerate(leaves)]
        return jax.tree.unflatten(structure, marked)

    def path(self, module: Any) -> str:
        """Return where a module is under the first one that was called and holds it."""
        if id(module) not in self.paths:
            self.kept.append(module)  # so that no other object gets its id
            for path, part in _parts(module, "", set()):
                self.paths.setdefault(id(part), path)
        return self.paths[id(module)]


def _marked(leaf: Any, name: str) -> Any:
    return _mark.bind(jnp.asarray(leaf), name=name) if hasattr(leaf, "dtype") else leaf


def numbered(path: str, call: int) -> str:
    """Return the name of a module's output.

    >>> numbered("encoder", 1), numbered("encoder", 2)
    ('encoder', 'encoder#2')
    """
    return path if call == 1 else f"{path}#{call}"


def _parts(value: Any, path: str, seen: set[int]) -> Iterator[tuple[str, Any]]:
    """Walk an object's modules, lists and dicts."""
    if id(value) in seen:
        return
    seen.add(id(value))
    if isinstance(value, (list, tuple)):
        inside: Any = enumerate(value)
    elif isinstance(value, Mapping):
        inside = value.items()
    elif _is_module(value):
        yield path, value
        inside = vars(value).items()
    else:
        return
    for key, part in inside:
        if not str(key).startswith("_"):
            yield from _parts(part, f"{path}.{key}" if path else str(key), seen)


def _bases() -> list[type]:
    """Return the classes of modules whose libraries are in use, apart from Linen's, which has a way of its own."""
    return [sys.modules[library].Module for library in ("flax.nnx", "equinox") if library in sys.modules]


def _is_module(value: Any) -> bool:
    return isinstance(value, tuple(_bases()))


def _subclasses(base: type) -> Iterator[type]:
    kind: type
    for kind in base.__subclasses__():
        yield kind
        yield from _subclasses(kind)


@contextmanager
def _marking() -> Iterator[None]:
    """Let every module mark what it returns."""
    names = _Names()

    def linen(call: Any, args: Any, kwargs: Any, context: Any) -> Any:
        output = call(*args, **kwargs)
        return names.mark(".".join(context.module.path), output) if context.method_name == "__call__" else output

    with ExitStack() as stack:
        stack.enter_context(flax.linen.intercept_methods(linen))
        for base in _bases():
            kinds: dict[type, None] = dict.fromkeys(_subclasses(base))
            for kind in kinds:
                if "__call__" in vars(kind):
                    stack.enter_context(_replaced(kind, names))
        yield


@contextmanager
def _replaced(kind: type, names: _Names) -> Iterator[None]:
    own = vars(kind)["__call__"]

    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        run = own.__get__(self, kind)
        if id(self) in names.running:  # a class calls the one that it extends
            return run(*args, **kwargs)
        path = names.path(self)
        names.running.add(id(self))
        try:
            return names.mark(path, run(*args, **kwargs))
        finally:
            names.running.discard(id(self))

    type.__setattr__(kind, "__call__", call)
    try:
        yield
    finally:
        type.__setattr__(kind, "__call__", own)
