"""Units that nobody wrote down: NumPy's own operations, each of which counts its roundings along the way.

A layer that gives no `units` is run forward and backward on `Rounded` numbers. Each carries, beside its value v,

    scale s       the same formula with absolute values for numbers and sums for differences
    roundings k   those of its furthest term, where it is a sum
    terms n       of that sum, which takes n − 1 more, in whatever order: K = k + n − 1

so that rounding to unit roundoff u moves it by at most K·u·s, to first order in u, as `oracle` has it. For v as worked
out by the layer's formula, by induction over its operations (Higham, 2002, sections 3.1 and 3.3):

    a ± b    s_a + s_b,  k = max(k_a, k_b),  n = n_a + n_b
    a·b      s_a·s_b,  K_a + K_b + 1 roundings; so products of matrices, where n counts the products that are not 0
    a / b    s_a·s_b/v_b²,  K_a + K_b + 1 roundings
    f(a)     |f| + |f′|·s_a,  K_a and f's own roundings: 1 of a root, `ELEMENTARY` of exp, log, tanh and the like

What a layer is given is exact, k = 0; a constant that float32 does not hold is rounded once; 0 is exact, and a factor
that is a power of two rounds nothing. A choice, such as a comparison, an argmax or a maximum, is taken as the oracle
takes it: where a twin may choose otherwise the layer needs a ``side``, with units or without.

This is sound for the formula as it is written. A twin that writes it otherwise, with intermediate numbers that are
larger, needs `units` by hand, and so does a formula whose errors are known to cancel.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
from scipy.special import erf, expit

from ae_core.errors import MissingError
from parity_tests.oracle.layer import Bounded, Layer, Values

ELEMENTARY = 8
"""Roundings that an elementary function (exp, log, tanh, erf) counts for.

It is a polynomial or a quotient of two, in which the last few roundings reach the result undamped: √8·2⁻²⁴ is 1.4 ulp,
and twice that, the limit, within what vector mathematics libraries state (Intel's and SLEEF's: 1 to 4 ulp).
"""


class Parts(NamedTuple):
    """What a rounded number carries; four arrays that broadcast against each other."""

    value: Any
    scale: Any
    roundings: Any
    terms: Any

    @property
    def number(self) -> np.ndarray:
        """K, the roundings that reach the number."""
        return np.asarray(self.roundings + np.maximum(self.terms - 1, 0))


class Rounded(np.ndarray):
    """An array of numbers that count their roundings.

    Its own memory is NaN throughout: what NumPy does to it behind the back of the rules below yields NaN, and shows.
    """

    parts: Parts

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, out: Any = None, **options: Any) -> Any:
        if ufunc in CHOICES and out is None:
            return getattr(ufunc, method)(*map(_value, inputs), **options)
        rules = {"__call__": RULES, "reduce": REDUCTIONS}.get(method, {})
        if ufunc not in rules or not set(options) <= {"axis", "keepdims", "dtype", "casting", "subok"}:
            raise _Unknown(f"{ufunc.__name__}{'' if method == '__call__' else '.' + method}")
        kept = {name: value for name, value in options.items() if name in ("axis", "keepdims")}
        result = _rounded(rules[ufunc](*map(_lifted, inputs), **kept))
        return result if out is None else _put(out[0], result)

    def __array_function__(self, function: Any, types: Any, arguments: Any, options: Any) -> Any:
        if function in MULTILINEAR:
            labels, operands = ((), arguments) if function is not np.einsum else (arguments[:1], arguments[1:])
            rest = () if function is np.einsum else operands[2:]
            operands = operands if function is np.einsum else operands[:2]
            return _rounded(_multilinear(lambda *each: function(*labels, *each, *rest, **options), *operands))
        if function in FUNCTIONS:
            return FUNCTIONS[function](*arguments, **options)
        if function in LIKE:
            return _rounded(_constant(LIKE[function](*map(_value, arguments), **options)))
        if function in CHOICES:
            return function(*map(_value, arguments), **options)
        if function not in MOVES:
            raise _Unknown(function.__name__)
        return _joined([function(*_part(arguments, i), **_part(options, i)) for i in range(4)])

    def __getitem__(self, place: Any) -> Any:
        return _rounded(Parts(*(np.asarray(part[place]) for part in self.parts)))

    def __setitem__(self, place: Any, given: Any) -> None:
        for part, new in zip(self.parts, _lifted(given), strict=True):
            part[place] = new

    def __iter__(self) -> Any:
        return (self[i] for i in range(len(self)))

    def __bool__(self) -> bool:
        return bool(self.parts.value)


class _Unknown(Exception):
    """An operation without a rule; the message names it."""


def units_of(layer: Layer, p: Mapping[str, np.ndarray], x: np.ndarray, dy: np.ndarray, u: float) -> Values:
    """Return a layer's units for unit roundoff u: its own, or those that its formulas count.

    Raises:
        MissingError: it gives none, and uses an operation that this file has no rule for.
    """
    return layer.units(p, x, dy, u) if isinstance(layer, Bounded) else counted_units(layer, p, x, dy, u)


def counted_units(layer: Layer, p: Mapping[str, np.ndarray], x: np.ndarray, dy: np.ndarray, u: float) -> Values:
    """Return √K·u·scale of every number of output and gradients, as counted while they are worked out.

    Raises:
        MissingError: the layer uses an operation that this file has no rule for.
    """
    given = {name: _exact(value) for name, value in p.items()}
    finite = all(np.isfinite(value).all() for value in (x, dy, *p.values()))

    def unit(result: Any) -> np.ndarray:
        found = _lifted(result)
        if finite and np.isnan(found.value).any():
            raise _Unknown("what NumPy does unasked, as np.array([x.sum()]) for x.sum().reshape(1),")
        scale = np.where(found.number > 0, found.scale, 0.0)
        return np.asarray(np.sqrt(found.number) * u * scale)

    try:
        with np.errstate(all="ignore"):
            output = unit(layer.forward(given, _exact(x)))
            by_input, gradients = layer.backward(given, _exact(x), _exact(dy))
            return Values(output, unit(by_input), {name: unit(value) for name, value in gradients.items()})
    except _Unknown as missing:
        raise MissingError(
            f"parity_tests has no count of roundings for {missing} in {type(layer).__name__}; "
            "expected operations of parity_tests/oracle/rounding.py, or a method units of the layer's own"
        ) from None


# From numbers to parts and back


def _rounded(parts: Parts) -> Rounded:
    shape = np.shape(parts.value)
    made = np.broadcast_to(np.float64("nan"), shape).view(Rounded)
    made.parts = Parts(*(_filled(part, shape) for part in parts))
    return made


def _filled(part: Any, shape: tuple[int, ...]) -> np.ndarray:
    part = np.asarray(part, np.float64)
    return part if part.shape == shape else np.broadcast_to(part, shape).copy()


def _exact(value: Any) -> Rounded:
    value = np.array(value, np.float64)
    return _rounded(Parts(value, np.abs(value), np.zeros(value.shape), (value != 0).astype(np.float64)))


def _constant(value: Any) -> Parts:
    value = np.array(value, np.float64)
    return Parts(value, np.abs(value), _narrowed(value), (value != 0).astype(np.float64))


def _narrowed(value: Any) -> Any:
    """Return 1 where float32 does not hold a number, else 0."""
    with np.errstate(all="ignore"):
        return (np.asarray(value).astype(np.float32).astype(np.float64) != value).astype(np.float64)


def _lifted(given: Any) -> Parts:
    if isinstance(given, Rounded):
        if "parts" not in vars(given):
            raise _Unknown("a method of NumPy's arrays")
        return given.parts
    return _constant(given)


def _value(given: Any) -> Any:
    return given.parts.value if isinstance(given, Rounded) else given


def _part(given: Any, which: int) -> Any:
    """Return one part of all numbers in a function's arguments; whole numbers there are sizes, axes and places."""
    if isinstance(given, Rounded):
        return _lifted(given)[which]
    if isinstance(given, dict):
        return {name: _part(value, which) for name, value in given.items()}
    if isinstance(given, list | tuple):
        return type(given)(_part(each, which) for each in given)
    if isinstance(given, float) or (isinstance(given, np.ndarray | np.generic) and given.dtype.kind == "f"):
        return _constant(given)[which]
    return given


def _joined(results: list[Any]) -> Any:
    if isinstance(results[0], list | tuple):
        return [_joined(list(each)) for each in zip(*results, strict=True)]
    return None if results[0] is None else _rounded(Parts(*results))


def _put(target: Any, result: Rounded) -> Any:
    if not isinstance(target, Rounded):
        raise _Unknown("an array of zeros that is filled in place, as np.zeros(…) for np.zeros_like(x, shape=…)")
    target[...] = result
    return target


# The rules


def _made(value: Any, scale: Any, roundings: Any) -> Parts:
    there = np.asarray(scale) > 0
    return Parts(value, scale, np.where(there, roundings, 0.0), there.astype(np.float64))


def _sum_of(operation: Callable[..., Any]) -> Callable[[Parts, Parts], Parts]:
    def rule(a: Parts, b: Parts) -> Parts:
        return Parts(
            operation(a.value, b.value), a.scale + b.scale, np.maximum(a.roundings, b.roundings), a.terms + b.terms
        )

    return rule


def _binary(a: Parts) -> Any:
    """Return 1 for exact powers of two, by which a product or quotient is exact."""
    return (np.abs(np.frexp(a.value)[0]) == 0.5) & (a.number == 0)


def _product(a: Parts, b: Parts) -> Parts:
    rounds = ~(_binary(a) | _binary(b))
    return _made(a.value * b.value, a.scale * b.scale, a.number + b.number + rounds)


def _quotient(a: Parts, b: Parts) -> Parts:
    return _made(a.value / b.value, a.scale * b.scale / b.value**2, a.number + b.number + ~_binary(b))


def _power(a: Parts, b: Parts) -> Parts:
    exponent = float(b.value)  # one for all
    if exponent == int(exponent) and 1 <= exponent <= 8:
        whole = a
        for _ in range(int(exponent) - 1):
            whole = _product(whole, a)
        return whole
    return _made_by(lambda x: x**exponent, lambda x, y: exponent * x ** (exponent - 1), ELEMENTARY)(a)


def _made_by(
    function: Callable[[Any], Any], slope: Callable[[Any, Any], Any], roundings: int
) -> Callable[[Parts], Parts]:
    def rule(a: Parts) -> Parts:
        y = function(a.value)
        # at exactly 0 a root's slope is infinite, and it is exact
        further = np.where(a.scale > 0, np.abs(slope(a.value, y)) * a.scale, 0.0)
        return _made(y, np.abs(y) + further, a.number + roundings)

    return rule


def _log_add(a: Parts, b: Parts) -> Parts:
    y = np.logaddexp(a.value, b.value)  # a maximum, a difference, exp, log and a sum
    return _made(y, np.abs(y) + a.scale + b.scale, np.maximum(a.number, b.number) + 2 * ELEMENTARY + 2)


def _extreme(operation: Callable[..., Any]) -> Callable[[Parts, Parts], Parts]:
    def rule(a: Parts, b: Parts) -> Parts:
        value = operation(a.value, b.value)
        scale, count = np.maximum(a.scale, b.scale), np.maximum(a.number, b.number)
        return _made(value, np.where(count > 0, scale, np.abs(value)), count)

    return rule


def _signed(a: Parts) -> Parts:
    return _constant(np.sign(a.value))


def _total(a: Parts, axis: Any = None, keepdims: bool = False) -> Parts:
    over = {"axis": axis, "keepdims": keepdims}
    return Parts(a.value.sum(**over), a.scale.sum(**over), a.roundings.max(**over, initial=0.0), a.terms.sum(**over))


def _furthest(name: str) -> Callable[..., Parts]:
    def rule(a: Parts, axis: Any = None, keepdims: bool = False) -> Parts:
        over = {"axis": axis, "keepdims": keepdims}
        value, scale, count = getattr(a.value, name)(**over), a.scale.max(**over), a.number.max(**over)
        return _made(value, np.where(count > 0, scale, np.abs(value)), count)

    return rule


def _multilinear(function: Callable[..., Any], *operands: Any) -> Parts:
    """Return a sum of products of one number from each operand."""
    each = [_lifted(operand) for operand in operands]
    there = [(parts.scale > 0).astype(np.float64) for parts in each]
    roundings = sum(parts.number.max(initial=0.0) for parts in each) + len(each) - 1
    terms = function(*there)
    return Parts(
        function(*(parts.value for parts in each)),
        function(*(parts.scale for parts in each)),
        np.where(terms > 0, roundings, 0.0),
        terms,
    )


def _mean(x: Any, axis: Any = None, keepdims: bool = False) -> Any:
    total = np.sum(x, axis=axis, keepdims=keepdims)
    return total / (x.size / max(total.size, 1))


def _variance(x: Any, axis: Any = None, keepdims: bool = False) -> Any:
    return _mean((x - _mean(x, axis, True)) ** 2, axis, keepdims)


def _clipped(x: Any, low: Any = None, high: Any = None) -> Any:
    x = x if low is None else np.maximum(x, low)
    return x if high is None else np.minimum(x, high)


RULES: dict[Any, Callable[..., Parts]] = {
    np.add: _sum_of(np.add),
    np.subtract: _sum_of(np.subtract),
    np.multiply: _product,
    np.divide: _quotient,
    np.matmul: lambda a, b: _multilinear(np.matmul, _rounded(a), _rounded(b)),
    np.power: _power,
    np.square: lambda a: _product(a, a),
    np.reciprocal: lambda a: _quotient(_constant(1.0), a),
    np.negative: lambda a: a._replace(value=-a.value),
    np.positive: lambda a: a,
    np.absolute: lambda a: a._replace(value=np.abs(a.value)),
    np.sign: _signed,
    np.maximum: _extreme(np.maximum),
    np.minimum: _extreme(np.minimum),
    np.sqrt: _made_by(np.sqrt, lambda x, y: 0.5 / y, 1),
    np.exp: _made_by(np.exp, lambda x, y: y, ELEMENTARY),
    np.expm1: _made_by(np.expm1, lambda x, y: np.exp(x), ELEMENTARY),
    np.log: _made_by(np.log, lambda x, y: 1 / x, ELEMENTARY),
    np.log1p: _made_by(np.log1p, lambda x, y: 1 / (1 + x), ELEMENTARY),
    np.tanh: _made_by(np.tanh, lambda x, y: 1 - y**2, ELEMENTARY),
    np.sin: _made_by(np.sin, lambda x, y: np.cos(x), ELEMENTARY),
    np.cos: _made_by(np.cos, lambda x, y: np.sin(x), ELEMENTARY),
    np.arctan: _made_by(np.arctan, lambda x, y: 1 / (1 + x**2), ELEMENTARY),
    expit: _made_by(expit, lambda x, y: y * (1 - y), ELEMENTARY),
    erf: _made_by(erf, lambda x, y: 2 / np.sqrt(np.pi) * np.exp(-(x**2)), ELEMENTARY),
    np.logaddexp: _log_add,
}
"""Of operations on numbers."""

REDUCTIONS: dict[Any, Callable[..., Parts]] = {
    np.add: _total,
    np.maximum: _furthest("max"),
    np.minimum: _furthest("min"),
}

CHOICES = {
    *(np.greater, np.greater_equal, np.less, np.less_equal, np.equal, np.not_equal, np.isfinite, np.isnan),
    *(np.logical_and, np.logical_or, np.logical_not, np.signbit),
    *(np.argsort, np.argmax, np.argmin, np.shape, np.ndim, np.size, np.nonzero, np.any, np.all),
}
"""What is asked of values, and answered by no number that is rounded."""

MULTILINEAR = {np.tensordot, np.dot, np.inner, np.outer, np.einsum}
LIKE: dict[Any, Callable[..., Any]] = {
    np.zeros_like: np.zeros_like,
    np.ones_like: np.ones_like,
    np.full_like: np.full_like,
    np.empty_like: np.zeros_like,
}
FUNCTIONS: dict[Any, Callable[..., Any]] = {
    np.sum: lambda x, axis=None, keepdims=False: np.add.reduce(x, axis=axis, keepdims=keepdims),
    np.max: lambda x, axis=None, keepdims=False: np.maximum.reduce(x, axis=axis, keepdims=keepdims),
    np.min: lambda x, axis=None, keepdims=False: np.minimum.reduce(x, axis=axis, keepdims=keepdims),
    np.mean: _mean,
    np.var: _variance,
    np.std: lambda x, axis=None, keepdims=False: np.sqrt(_variance(x, axis, keepdims)),
    np.clip: _clipped,
}

MOVES = {
    *(np.reshape, np.ravel, np.transpose, np.swapaxes, np.moveaxis, np.squeeze, np.expand_dims, np.broadcast_to),
    *(np.concatenate, np.stack, np.append, np.split, np.array_split, np.repeat, np.tile, np.roll, np.flip, np.pad),
    *(np.take, np.take_along_axis, np.put_along_axis, np.where, np.select, np.copy, np.diagonal),
}
"""What numbers go through unchanged."""


def _moving(name: str) -> Callable[..., Any]:
    def method(self: Rounded, *arguments: Any, **options: Any) -> Any:
        return _joined([getattr(part, name)(*arguments, **options) for part in _lifted(self)])

    return method


def _reducing(name: str) -> Callable[..., Any]:
    function = FUNCTIONS[getattr(np, name)]
    return lambda self, *arguments, **options: function(self, *arguments, **options)


def _choosing(name: str) -> Callable[..., Any]:
    return lambda self, *arguments, **options: getattr(_value(self), name)(*arguments, **options)


for _name in ("reshape", "ravel", "flatten", "transpose", "swapaxes", "squeeze", "repeat", "take", "copy", "diagonal"):
    setattr(Rounded, _name, _moving(_name))
for _name in ("sum", "mean", "max", "min", "var", "std", "clip"):
    setattr(Rounded, _name, _reducing(_name))
for _name in ("argsort", "argmax", "argmin", "nonzero", "any", "all"):
    setattr(Rounded, _name, _choosing(_name))
setattr(Rounded, "astype", lambda self, dtype, **options: self)  # noqa: B010 (numbers stay what they are: float64)
setattr(Rounded, "dot", lambda self, other: np.dot(self, other))  # noqa: B010
setattr(Rounded, "T", property(lambda self: self.transpose()))  # noqa: B010
