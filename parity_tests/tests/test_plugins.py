"""Plugins in the parity jobs: every job takes them, and both twins' halves are loaded."""

import sys

import pytest

from ae_core.commands.shell import run_program
from ae_core.spec.plugins import VARIABLE
from parity_tests.__main__ import NAME, work


@pytest.fixture
def plugin(tmp_path, monkeypatch):
    """A plugin with both halves; variable, path and modules are left as they were."""
    monkeypatch.setenv(VARIABLE, "")
    monkeypatch.setattr(sys, "path", list(sys.path))
    folder = tmp_path / "plugged_halves"
    folder.mkdir()
    for name in ("__init__", "jax", "torch"):
        (folder / f"{name}.py").write_text("")
    yield folder
    for name in [name for name in sys.modules if name.startswith("plugged")]:
        del sys.modules[name]


@pytest.mark.parametrize("job", [(), ("mutation",), ("trajectory",), ("accelerator",)])
@pytest.mark.parametrize("first", [True, False])
def test_every_job_takes_them(plugin, monkeypatch, capsys, job, first):
    flag = ["--plugin", str(plugin)]
    monkeypatch.setattr(sys, "argv", ["", *(flag if first else ()), *job, "--help", *(() if first else flag)])
    with pytest.raises(SystemExit) as caught:
        work()
    assert caught.value.code == 0
    assert f"usage: {' '.join((NAME, *job))} " in capsys.readouterr().out
    assert {"plugged_halves", "plugged_halves.jax", "plugged_halves.torch"} <= sys.modules.keys()


def test_a_broken_half_is_refused(plugin, monkeypatch, capsys):
    (plugin / "jax.py").write_text("import no_such_module\n")
    monkeypatch.setattr(sys, "argv", ["", "--plugin", str(plugin)])
    assert run_program(NAME, work) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.count("\n") == 1
    assert f'given "{plugin}"; importing plugged_halves.jax raised ModuleNotFoundError' in said.err
