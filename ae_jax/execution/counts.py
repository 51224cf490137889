"""What one image costs: the products of a model's forward pass, counted in the traced program, whatever the model is.

A product is a ``dot_general`` or a ``conv_general_dilated``, also inside of other functions, loops and branches.
Element-wise work is not counted, nor what does not depend on the image, since it is worked out once for a batch. A
convolution multiplies each weight at each position of its smaller side: the zeros that a transposed convolution is
drawn with are no work, and what padding saves at borders is not taken off.

A loop counts as many turns as it is known to take, and one where that depends on the numbers; of the branches of a
condition that one counts which multiplies most.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn, Literal, jaxprs_in_params

from ae_core.spec import Spec, Training
from ae_jax.model.autoencoder import build
from ae_jax.tensors import from_tensors


class Product(NamedTuple):
    """One product of the forward pass, for one image."""

    weights: int
    """Numbers in the operand that derives from the parameters alone; 0 where both operands depend on the image."""
    multiplications: int
    """Of numbers of one operand by numbers of the other."""
    outputs: int
    """Numbers that come out."""
    gradients: int
    """Operands that depend on parameters, 0 to 2: going backward takes a product for each."""


class Counts(NamedTuple):
    """The products of a model's halves, in the order of the program."""

    encode: tuple[Product, ...]
    """From an image to its code, all that belongs to the code included."""
    decode: tuple[Product, ...]
    """From the code to an image."""
    code: int
    """Numbers in the code."""

    @property
    def products(self) -> tuple[Product, ...]:
        """Those of both halves."""
        return (*self.encode, *self.decode)


class _Origin(NamedTuple):
    """What a value in the program depends on."""

    image: bool = False
    parameters: bool = False
    turns: int = 1
    """Different values that it takes in the loops around it."""


_CONSTANT = _Origin()

_Found = tuple[list[_Origin], list[Product]]
"""Where the results of a piece of program come from, and the products in it."""


def count(spec: Spec) -> Counts:
    """Return the products of a spec's model; a spec is traced once, however it is trained."""
    return _count(replace(spec, training=Training()))


@lru_cache(maxsize=64)
def _count(spec: Spec) -> Counts:
    model = build(spec, plain_convolutions=True)
    zeros = {name: np.broadcast_to(np.float32(0), shape) for name, shape in model.shapes.items()}  # without memory
    variables = jax.eval_shape(lambda: from_tensors(zeros, "float32"))
    image = jax.ShapeDtypeStruct((1, *spec.input_shape), np.float32)
    encode, code = jax.make_jaxpr(model.encode, return_shape=True)(variables, image)
    decode = jax.make_jaxpr(model.decode)(variables, code.z)
    return Counts(
        products(encode, variables, image), products(decode, variables, code.z, learned=True), math.prod(code.z.shape)
    )


def products(program: ClosedJaxpr, variables: Mapping[str, Any], x: Any, learned: bool = False) -> tuple[Product, ...]:
    """Return the products of a traced function of variables and x, in the order of the program.

    Args:
        program: what ``jax.make_jaxpr(function)(variables, x)`` returns.
        variables: arrays, or their shapes, of which those under ``params`` are the parameters.
        x: one image, or what was made of it.
        learned: whether x depends on the parameters itself, as a code does.
    """
    groups = [(values, _Origin(parameters=name == "params")) for name, values in sorted(variables.items())]
    groups.append((x, _Origin(image=True, parameters=learned)))
    inputs = [origin for values, origin in groups for _ in jax.tree.leaves(values)]
    return tuple(_walk(program.jaxpr, inputs)[1])


def _walk(program: Jaxpr, inputs: Sequence[_Origin]) -> _Found:
    known = dict(zip(program.invars, inputs, strict=True))

    def origin(atom: Any) -> _Origin:
        return _CONSTANT if isinstance(atom, Literal) else known.get(atom, _CONSTANT)

    found: list[Product] = []
    for equation in program.eqns:
        origins, inner = _equation(equation, [origin(atom) for atom in equation.invars])
        known.update(zip(equation.outvars, origins, strict=True))
        found += inner
    return [origin(atom) for atom in program.outvars], found


def _equation(equation: JaxprEqn, given: list[_Origin]) -> _Found:
    match equation.primitive.name:
        case "dot_general":
            (contracted, _), _ = equation.params["dimension_numbers"]
            lengths = [_shape(equation.invars[0])[axis] for axis in contracted]
            return _product(equation, given, math.prod(_shape(equation.outvars[0])) * math.prod(lengths))
        case "conv_general_dilated":
            return _product(equation, given, _convolution(equation))
        case "scan":
            return _scan(equation, given)
        case "while":
            return _while(equation, given)
        case "cond":
            branches = [_walk(branch.jaxpr, given[1:]) for branch in equation.params["branches"]]
            origins = [_joined(same) for same in zip(*(results for results, _ in branches), strict=True)]
            return origins, max((inner for _, inner in branches), key=_multiplications)
        case "optimization_barrier":
            return given, []
    programs = list(jaxprs_in_params(equation.params))
    if [(len(p.invars), len(p.outvars)) for p in programs] == [(len(given), len(equation.outvars))]:
        return _walk(programs[0], given)  # jit, remat, custom_jvp, custom_vjp and the like
    # of anything else that runs programs it is not known what it hands them
    whole = _joined(given)
    inside = [product for p in programs for product in _walk(p, [whole] * len(p.invars))[1]]
    return [whole] * len(equation.outvars), inside


def _product(equation: JaxprEqn, given: list[_Origin], multiplications: int) -> _Found:
    whole = _joined(given)
    if not whole.image:
        return [whole], []
    sizes = zip(given, (math.prod(_shape(operand)) for operand in equation.invars), strict=True)
    weights = sum(size * origin.turns for origin, size in sizes if origin.parameters and not origin.image)
    gradients = sum(origin.parameters for origin in given)
    return [whole], [Product(weights, multiplications, math.prod(_shape(equation.outvars[0])), gradients)]


def _convolution(equation: JaxprEqn) -> int:
    axes, (images, kernel) = equation.params["dimension_numbers"], map(_shape, equation.invars)
    out = _shape(equation.outvars[0])
    sides = zip(axes.lhs_spec[2:], axes.out_spec[2:], strict=True)
    positions = math.prod(min(images[i], out[o]) for i, o in sides)
    return math.prod(kernel) * positions * out[axes.out_spec[0]]


def _scan(equation: JaxprEqn, given: list[_Origin]) -> _Found:
    constants = equation.params["num_consts"]
    first_slice = constants + equation.params["num_carry"]
    parts = given[:constants], given[constants:first_slice], given[first_slice:]
    return _loop(equation.params["jaxpr"].jaxpr, *parts, length=equation.params["length"])


def _while(equation: JaxprEqn, given: list[_Origin]) -> _Found:
    of_test = equation.params["cond_nconsts"]
    state_at = of_test + equation.params["body_nconsts"]
    origins, inner = _loop(equation.params["body_jaxpr"].jaxpr, given[of_test:state_at], given[state_at:], [], length=1)
    _, tested = _walk(equation.params["cond_jaxpr"].jaxpr, [*given[:of_test], *origins])
    return origins, tested + inner


def _loop(body: Jaxpr, kept: list[_Origin], state: list[_Origin], slices: list[_Origin], length: int) -> _Found:
    outside = _joined([*kept, *state, *slices]).turns
    state, slices = ([o._replace(turns=o.turns * length) for o in changing] for changing in (state, slices))
    while True:
        origins, inner = _walk(body, [*kept, *state, *slices])
        later = [_joined(pair) for pair in zip(state, origins, strict=False)]  # the state comes first
        if later == state:
            break
        state = later
    found = [p._replace(multiplications=p.multiplications * length, outputs=p.outputs * length) for p in inner]
    return [_joined([*state[i : i + 1], o])._replace(turns=outside) for i, o in enumerate(origins)], found


def _joined(origins: Iterable[_Origin]) -> _Origin:
    every = [*origins, _CONSTANT]
    return _Origin(any(o.image for o in every), any(o.parameters for o in every), max(o.turns for o in every))


def _shape(atom: Any) -> tuple[int, ...]:
    return tuple(atom.aval.shape)


def _multiplications(found: Iterable[Product]) -> int:
    return sum(product.multiplications for product in found)
