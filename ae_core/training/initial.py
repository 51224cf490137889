"""Initial weights, drawn once in NumPy for both twins, so that they start bit-equal."""

import math
from collections.abc import Collection, Mapping

import numpy as np

from ae_core.errors import SpecError
from ae_core.files.weights import is_state
from ae_core.rng import generator
from ae_core.spec import Initial, Initializer, Spec

MAX_NUMBERS = 2**31
"""The most numbers a model may have; far beyond what is drawn here in reasonable time."""


def check_size(shapes: Mapping[str, tuple[int, ...]]) -> Mapping[str, tuple[int, ...]]:
    """Return the shapes.

    Raises:
        SpecError: together they have more than `MAX_NUMBERS` numbers.
    """
    total = sum(math.prod(shape) for shape in shapes.values())
    if total > MAX_NUMBERS:
        raise SpecError(f"spec: the model has {total:,} parameters; expected at most {MAX_NUMBERS:,}")
    return shapes


def check_state(names: Collection[str], state: Collection[str], spec: Spec) -> None:
    """Refuse tensors that are not what their names say, see `is_state`, and state that a batch in parts would spoil.

    Args:
        names: of all tensors.
        state: of those that training changes without a gradient.
        spec: of the model.

    Raises:
        SpecError: names the tensor.
    """
    for name in sorted(names):
        if name in state and not is_state(name):
            raise SpecError(f'spec: tensor "{name}" is state; expected a name whose last part begins with "running_"')
        if name not in state and is_state(name):
            raise SpecError(
                f'spec: tensor "{name}" is a parameter; expected a name that does not begin with "running_"'
            )
        if name in state and not spec.couples_samples:
            raise SpecError(f'spec: tensor "{name}" is state; expected a component that says that it couples_samples')


def initial_weights(shapes: Mapping[str, tuple[int, ...]], spec: Spec, seed: int) -> dict[str, np.ndarray]:
    """Draw float64 weights for tensors given by name and shape, in PyTorch's names and layouts.

    Each tensor has a random stream of its own, keyed by its name: adding a layer changes no other layer's start.
    Kernels and matrices follow the spec's initialiser; biases and running means are 0, norm weights and running
    variances 1; tensors that a component names start where it says.

    Fans are shape[1]·receptive field (in) and shape[0]·receptive field (out), in PyTorch's layout; Keras and PyTorch
    both count so, for transposed convolutions too. The normal variants are not truncated.

    Source: Glorot & Bengio (2010), eq. 16; He et al. (2015), eq. 10; LeCun et al. (1998), eq. 16.
    """
    named = spec.initial_values
    return {
        name: _draw(name, shape, _start_of(name, shape, named), spec.initializer, seed)
        for name, shape in shapes.items()
    }


def _start_of(name: str, shape: tuple[int, ...], named: Mapping[str, Initial]) -> Initial:
    for ending, value in named.items():
        if f".{name}".endswith(f".{ending}"):
            return value
    if len(shape) > 1:
        return "kernel"
    return "ones" if name.endswith((".weight", ".running_var")) else "zeros"


def _draw(name: str, shape: tuple[int, ...], start: Initial, initializer: Initializer, seed: int) -> np.ndarray:
    if start == "zeros":
        return np.zeros(shape)
    if start == "ones":
        return np.ones(shape)
    rng = generator(seed, "init", name)
    if not isinstance(start, str):
        return rng.normal(0, start, shape)
    field = math.prod(shape[2:])
    fan_in, fan_out = shape[1] * field, shape[0] * field
    family, _, form = initializer.partition("_")
    variance = {"glorot": 2 / (fan_in + fan_out), "he": 2 / fan_in, "lecun": 1 / fan_in}[family]
    if form == "uniform":
        limit = math.sqrt(3 * variance)  # a uniform on ±limit has variance limit²/3
        return rng.uniform(-limit, limit, shape)
    return rng.normal(0, math.sqrt(variance), shape)
