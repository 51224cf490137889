"""The weights file of a model."""

from pathlib import Path

from ae_core.files.weights import check_tensors, load_weights, save_weights
from ae_jax.model.autoencoder import Autoencoder, Variables, build
from ae_jax.tensors import from_tensors, to_tensors


def save(path: Path, model: Autoencoder, variables: Variables) -> None:
    """Write a weights file that either twin loads.

    Raises:
        OutputError: the path cannot be written.
    """
    save_weights(path, model.spec, to_tensors(variables))


def load(path: Path) -> tuple[Autoencoder, Variables]:
    """Read a weights file that either twin wrote.

    Raises:
        WeightsError: the file is damaged, foreign, or does not fit its own spec.
        ValueError: it holds float64 and JAX would silently narrow it.
    """
    spec, tensors = load_weights(path)
    model = build(spec)
    check_tensors(tensors, model.shapes, str(path))
    return model, from_tensors(tensors, spec.training.precision)
