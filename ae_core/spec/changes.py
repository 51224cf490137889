"""A spec by its name or by its own, and with other values than it has."""

from collections.abc import Mapping
from functools import reduce
from operator import getitem
from typing import Any

import numpy as np

from ae_core.errors import SpecError
from ae_core.spec import Precision, Spec, spec_from_json, spec_to_json
from ae_core.spec.presets import PRESETS, preset


def chosen(spec: Spec | str) -> Spec:
    """Return a spec that is given itself or by the name of a preset.

    Raises:
        SpecError: it is neither.
    """
    if not isinstance(spec, Spec | str):
        raise SpecError(f"spec: given {type(spec).__name__}; expected a Spec, or one of {', '.join(PRESETS)}")
    return preset(spec) if isinstance(spec, str) else spec


def changed(spec: Spec, changes: Mapping[str, Any]) -> Spec:
    """Return the spec with other values at some paths, such as ``training.epochs``; a value of None changes nothing.

    Raises:
        SpecError: a value is of the wrong type or out of bounds, or the spec has no such field.
    """
    value = spec_to_json(spec)
    for path, new in changes.items():
        if new is not None:
            *parents, last = path.split(".")
            reduce(getitem, parents, value)[last] = _plain(new)
    return spec_from_json(value)


def changed_training(
    spec: Spec,
    epochs: int | None = None,
    batch_size: int | None = None,
    learning_rate: float | None = None,
    precision: Precision | None = None,
) -> Spec:
    """Return the spec with another training; what is None stays.

    Raises:
        SpecError: see `changed`.
    """
    given = {"epochs": epochs, "batch_size": batch_size, "precision": precision}
    changes = {f"training.{name}": value for name, value in given.items()}
    return changed(spec, {**changes, "training.optimizer.learning_rate": learning_rate})


def _plain(value: Any) -> Any:
    """Return NumPy's numbers as Python's, and sequences as lists, as JSON has them."""
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    return [_plain(item) for item in value] if isinstance(value, tuple | list) else value
