"""The weights file of a model."""

from pathlib import Path

from ae_core.files.weights import check_tensors, load_weights, save_weights
from ae_torch.model.autoencoder import Autoencoder, build
from ae_torch.tensors import from_tensors, to_tensors


def save(path: Path, model: Autoencoder) -> None:
    """Write a weights file that either twin loads.

    Raises:
        OutputError: the path cannot be written.
    """
    save_weights(path, model.spec, to_tensors(model))


def load(path: Path) -> Autoencoder:
    """Read a weights file that either twin wrote.

    Raises:
        WeightsError: the file is damaged, foreign, or does not fit its own spec.
    """
    spec, tensors = load_weights(path)
    model = build(spec)
    check_tensors(tensors, model.shapes, str(path))
    return from_tensors(model, tensors)
