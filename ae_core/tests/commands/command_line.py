"""The command line as tests run it, and the models that they give it."""

from dataclasses import replace

import numpy as np

from ae_core.commands import cli
from ae_core.spec import (
    BernoulliLikelihood,
    ConvBackbone,
    DenseBackbone,
    GaussianBottleneck,
    GaussianLikelihood,
    PlainBottleneck,
    Spec,
)
from ae_core.training.initial import initial_weights

TWINS = ("jax", "torch")
PLAIN = Spec((8, 8, 1), DenseBackbone((6,)), PlainBottleneck(2))
VAE = Spec((8, 8, 1), ConvBackbone((2,), (2,)), GaussianBottleneck(3), BernoulliLikelihood())
COLOUR = Spec((8, 4, 3), DenseBackbone(()), PlainBottleneck(2), GaussianLikelihood())
SPECS = {"plain": PLAIN, "vae": VAE, "colour": COLOUR}
TRAIN = ("train", "--out", "{out}/run", "--epochs", "1")
"""As the fixture ``refuse`` takes arguments: {in} and {out} are folders."""


def run(twin, *argv):
    """Run a command of a twin in this process and return its exit status."""
    return cli.main(twin, [str(a) for a in argv])


def shapes(spec):
    """Return the shapes of a model's tensors by name."""
    return cli.load_engine("torch").shapes(spec)


def drawn(spec):
    """Return weights of a model that nobody trained, in float64."""
    return initial_weights(shapes(spec), replace(spec, initializer="he_normal"), 1)


def saved(path):
    """Return the array that a command wrote."""
    array = np.load(path, allow_pickle=False)
    assert array.dtype == np.float32
    assert np.isfinite(array).all()
    return array


def listing(folder):
    """Return what is in a folder: content by path, None for a folder."""
    return {path.relative_to(folder): path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}


def one_line(capsys, twin, fragment):
    """Assert that a command said one line, an error with this in it."""
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith(f"ae-{twin}: ")
    assert said.err.count("\n") == 1
    assert said.err.endswith("\n")
    assert fragment in said.err
