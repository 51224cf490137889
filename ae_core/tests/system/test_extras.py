"""What a user reads whose installation lacks a framework: one line that names the extra."""

import os
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from ae_core.commands import cli
from ae_core.system import extras

# Python runs a sitecustomize module before anything else; this one makes packages look as if they were not installed.
_HIDING = """
import importlib.machinery
import os

real, hidden = importlib.machinery.PathFinder.find_spec, os.environ["HIDDEN"].split()

def find_spec(name, path=None, target=None):
    return None if name.partition(".")[0] in hidden else real(name, path, target)

importlib.machinery.PathFinder.find_spec = find_spec
"""


@pytest.fixture
def without(tmp_path):
    """Return a function that runs a command in an interpreter that does not find some packages."""
    (tmp_path / "sitecustomize.py").write_text(_HIDING)

    def run(hidden, *command):
        places = os.pathsep.join(filter(None, (str(tmp_path), os.environ.get("PYTHONPATH"))))
        environment = os.environ | {"PYTHONPATH": places, "HIDDEN": hidden}
        return subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=600)

    return run


_SKLEARN = "scikit-learn not installed; expected: pip install 'twin-autoencoders[sklearn]'"
_LINES = [
    ("jax", "jax flax optax", "jax, flax, optax not installed; expected: pip install 'twin-autoencoders[jax]'"),
    ("jax", "optax", "optax not installed; expected: pip install 'twin-autoencoders[jax]'"),
    ("torch", "torch", "torch not installed; expected: pip install 'twin-autoencoders[torch]'"),
]


def _hide(monkeypatch, hidden):
    monkeypatch.setattr(extras, "find_spec", lambda name: None if name in hidden.split() else object())


@pytest.mark.parametrize(("twin", "hidden", "line"), _LINES)
def test_missing_extra(monkeypatch, twin, hidden, line):
    _hide(monkeypatch, hidden)
    assert extras.missing_extra(twin) == line
    with pytest.raises(ModuleNotFoundError, match="not installed; expected: pip install"):
        extras.require(twin)


@pytest.mark.parametrize(("twin", "others"), [("jax", "torch"), ("torch", "jax flax optax")])
def test_no_twin_asks_for_the_others_extra(monkeypatch, twin, others):
    _hide(monkeypatch, others)
    assert extras.missing_extra(twin) is None
    extras.require(twin)


@pytest.mark.parametrize(("twin", "hidden", "line"), _LINES)
@pytest.mark.parametrize("argv", [["info", "--preset", "foster-ae"], ["--help"], []])
def test_command_line(monkeypatch, capsys, twin, hidden, line, argv):
    _hide(monkeypatch, hidden)
    monkeypatch.setattr(sys, "argv", [f"ae-{twin}", *argv])
    with pytest.raises(SystemExit) as caught:
        getattr(cli, f"main_{twin}")()
    assert caught.value.code == 2
    assert capsys.readouterr() == ("", f"ae-{twin}: {line}\n")


@pytest.mark.parametrize(("twin", "hidden", "line"), _LINES)
def test_python_m(without, twin, hidden, line):
    result = without(hidden, sys.executable, "-m", f"ae_{twin}", "info", "--preset", "foster-ae")
    assert (result.returncode, result.stdout, result.stderr) == (2, "", f"ae-{twin}: {line}\n")


@pytest.mark.parametrize(("twin", "hidden", "line"), _LINES)
def test_console_script(without, twin, hidden, line):
    script = Path(sysconfig.get_path("scripts")) / f"ae-{twin}"
    result = without(hidden, str(script), "info", "--preset", "foster-ae")
    assert (result.returncode, result.stdout, result.stderr) == (2, "", f"ae-{twin}: {line}\n")


@pytest.mark.parametrize(("twin", "hidden", "line"), _LINES)
def test_import(without, twin, hidden, line):
    result = without(hidden, sys.executable, "-c", f"import ae_{twin}")
    assert result.returncode == 1
    assert result.stderr.splitlines()[-1] == f"ModuleNotFoundError: {line}"


def test_core_needs_no_framework(without):
    modules = "ae_core, ae_core.commands.menu, ae_core.commands.run, ae_core.commands.cli, ae_core.data"
    result = without("jax flax optax torch", sys.executable, "-c", f"import {modules}; print('done')")
    assert (result.stdout, result.stderr) == ("done\n", "")


@pytest.mark.parametrize(("twin", "others"), [("jax", "torch"), ("torch", "jax flax optax")])
def test_each_twin_runs_without_the_other(without, twin, others):
    result = without(others, sys.executable, "-m", f"ae_{twin}", "info", "--preset", "dense-digits")
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.endswith("\n33,474 parameters\n")


@pytest.mark.parametrize("twin", ["jax", "torch"])
def test_estimators_alone_need_scikit_learn(without, tmp_path, twin):
    code = f"import ae_{twin}; ae_{twin}.fit; ae_{twin}.no_such_name"
    result = without("sklearn pandas", sys.executable, "-c", code)
    assert result.stderr.splitlines()[-1] == f"AttributeError: module 'ae_{twin}' has no attribute 'no_such_name'"
    for code in (f"from ae_{twin} import AutoencoderEstimator", f"import ae_{twin}; ae_{twin}.AutoencoderEstimator"):
        result = without("sklearn pandas", sys.executable, "-c", code)
        assert result.returncode == 1
        assert result.stderr.splitlines()[-1] == f"ModuleNotFoundError: {_SKLEARN}"
    command = (sys.executable, "-m", f"ae_{twin}", "train", "--preset", "dense-digits", "--epochs", "1")
    result = without("sklearn pandas", *command, "--data", "cans", "--count", "50", "--out", "run")
    assert result.returncode == 0
    result = without("sklearn pandas", *command, "--data", "digits", "--out", "other")
    assert (result.returncode, result.stdout, result.stderr) == (2, "", f"ae-{twin}: digits: {_SKLEARN}\n")


def test_scikit_learn_is_imported_for_estimators_alone(without):
    code = "import ae_jax, ae_torch, ae_core.commands.menu, sys; print('sklearn' in sys.modules); "
    code += "ae_jax.AutoencoderEstimator, ae_torch.AutoencoderEstimator; print('sklearn' in sys.modules)"
    result = without("", sys.executable, "-c", code)
    assert (result.stdout, result.stderr) == ("False\nTrue\n", "")
