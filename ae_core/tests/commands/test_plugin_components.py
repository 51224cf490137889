"""A plugin's component from training to codes, each command in a process of its own; and what is missing without it."""

import subprocess
import sys

import numpy as np
import pytest

from ae_core.commands.run import FILES
from ae_core.data import cans
from ae_core.tests.commands.command_line import TWINS

_SPEC = """
from dataclasses import dataclass, replace
from typing import ClassVar

from ae_core.spec import Penalty
from ae_core.spec.presets import preset, register_preset


@dataclass(frozen=True)
class Small(Penalty):
    kind: ClassVar[str] = "small-codes"
    weight: float = 0.01


register_preset("small", replace(preset("dense-digits"), penalties=(Small(),)))
"""
_BACKBONE = """
from ae_core.spec import Backbone


@dataclass(frozen=True)
class Bare(Backbone):
    kind: ClassVar[str] = "bare"

    def feature_shape(self, input_shape):
        return (3,)


register_preset("bare", replace(preset("dense-digits"), backbone=Bare()))
"""
_HALF = """
from ae_{twin}.model.penalty import penalty
from plugged import Small


@penalty.register
def _small(penalty: Small, seen):
    return (seen.code.z**2).sum(-1)
"""


@pytest.fixture
def plugin(tmp_path):
    folder = tmp_path / "plugged"
    folder.mkdir()
    (folder / "__init__.py").write_text(_SPEC)
    for twin in TWINS:
        (folder / f"{twin}.py").write_text(_HALF.format(twin=twin))
    return folder


def _program(twin, folder, *argv):
    command = [sys.executable, "-m", f"ae_{twin}", *map(str, argv)]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=600)
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize(("one", "other"), [("jax", "torch"), ("torch", "jax")])
def test_from_training_to_codes(plugin, tmp_path, one, other):
    """Away from the plugin's folder, where only the flag finds it."""
    away = tmp_path / "away"
    away.mkdir()
    np.save(away / "x.npy", cans(4, (8, 8)).images)
    flag = ("--plugin", plugin)
    argv = ("train", "--preset", "small", "--data", "cans", "--count", 40, "--epochs", 1, "--out", "run")
    status, _, said = _program(one, away, *argv, *flag)
    assert status == 0, said
    encode = ("encode", "--weights", f"run/{FILES[0]}", "--images", "x.npy", "--out", "z.npy")
    # a file names a kind, and that imports nothing
    status, out, said = _program(other, away, *encode)
    assert (status, out) == (2, "")
    assert said.count("\n") == 1
    assert 'unknown penalty "small-codes"' in said
    assert "--plugin" in said
    assert not (away / "z.npy").exists()
    status, _, said = _program(other, away, *flag, *encode)
    assert status == 0, said
    assert np.load(away / "z.npy").shape == (4, 2)


@pytest.mark.parametrize("twin", TWINS)
def test_a_half_that_is_not_there(plugin, tmp_path, twin):
    """The plugin loads, and the twin says what it has not got."""
    (plugin / f"{twin}.py").unlink()
    argv = ("train", "--preset", "small", "--data", "cans", "--count", 40, "--epochs", 1, "--out", "run")
    status, out, said = _program(twin, tmp_path, *argv, "--plugin", "plugged")
    assert (status, out) == (2, "")
    assert said.splitlines()[-1].startswith(f'ae-{twin}: ae_{twin} has no penalty for "small-codes"; expected ')
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("twin", TWINS)
def test_info_prints_nothing_of_a_spec_that_it_cannot_build(plugin, tmp_path, twin):
    (plugin / f"{twin}.py").unlink()
    with (plugin / "__init__.py").open("a") as file:
        file.write(_BACKBONE)
    status, out, said = _program(twin, tmp_path, "info", "--preset", "bare", "--plugin", "plugged")
    assert (status, out) == (2, "")
    assert said.startswith(f'ae-{twin}: ae_{twin} has no make_encoder for "bare"; expected ')
