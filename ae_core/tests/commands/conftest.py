"""Weights files, images, and commands that must be refused."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from ae_core.data import cans
from ae_core.files.weights import save_weights
from ae_core.spec import BatchNorm, DenseBackbone
from ae_core.tests.commands.command_line import PLAIN, SPECS, drawn, listing, one_line, run
from ae_core.tests.commands.files import GOOD, spec_file


@pytest.fixture(autouse=True, scope="module")
def _one_thread():
    """Models are tiny here: a second thread would only spin, and for long where the cores are busy."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """Weights files that nobody trained, by the name of their spec."""
    folder = tmp_path_factory.mktemp("weights")
    for name, spec in SPECS.items():
        save_weights(folder / name, spec, drawn(spec))
    return {name: folder / name for name in SPECS}


@pytest.fixture
def images(tmp_path):
    path = tmp_path / "images.npy"
    np.save(path, cans(5, (8, 8)).images)
    return path


@pytest.fixture
def refuse(tmp_path, weights, capsys):
    """Return a function that runs a command which must be refused, and must change nothing."""
    inputs, outputs = tmp_path / "in", tmp_path / "out"
    for folder in (inputs, outputs, outputs / "full", outputs / "folder.npy"):
        folder.mkdir()
    for file in ("file", "full/a", "old.npy"):
        (outputs / file).write_bytes(b"kept")
    for name, path in weights.items():
        (inputs / name).write_bytes(path.read_bytes())
    np.save(inputs / "z.npy", np.zeros((3, 2)))
    np.save(inputs / "x.npy", GOOD)
    (inputs / "spec.json").write_bytes(spec_file())
    (inputs / "norm.json").write_bytes(spec_file(replace(PLAIN, backbone=DenseBackbone((4,), norm=BatchNorm()))))

    def refuse(twin, argv, message, **files):
        for name, content in files.items():
            path = inputs / name.replace("__", ".").replace("_", "-")
            path.unlink(missing_ok=True)
            if content is not None:
                path.write_bytes(content)
        before = listing(tmp_path)
        argv = [a.replace("{in}", str(inputs)).replace("{out}", str(outputs)) for a in argv]
        assert run(twin, *argv) == 2
        one_line(capsys, twin, message)
        assert listing(tmp_path) == before

    return refuse
