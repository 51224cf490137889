"""Plugins in the benchmarks: every command takes them, and the processes that it starts get them."""

import json
import os
import subprocess
import sys

import pytest

from ae_core.commands.shell import run_program
from ae_core.spec.plugins import VARIABLE
from benchmarks import NAME
from benchmarks.commands import run_command
from benchmarks.race.process import Process, variables
from benchmarks.race.workloads import WORKLOADS, workload_to_json

# a penalty |z|, and a preset that has it; each import leaves a line in a file beside the plugin
FILES = {
    "__init__": """
        from dataclasses import dataclass, replace
        from typing import ClassVar

        from ae_core.spec import Penalty
        from ae_core.spec.presets import preset, register_preset


        @dataclass(frozen=True)
        class Small(Penalty):
            kind: ClassVar[str] = "plugged_small"
            weight: float = 0.01


        register_preset("plugged", replace(preset("dense-digits"), penalties=(Small(),)))
        """,
    "jax": """
        import jax.numpy as jnp

        from ae_jax.model.penalty import penalty
        from plugged_penalty import Small


        @penalty.register
        def _small(penalty: Small, seen):
            return jnp.abs(seen.code.z).sum(-1)
        """,
    "torch": """
        from ae_torch.model.penalty import penalty
        from plugged_penalty import Small


        @penalty.register
        def _small(penalty: Small, seen):
            return seen.code.z.abs().sum(-1)
        """,
}
NOTE = """
import os
from pathlib import Path
with Path(__file__).parents[1].joinpath("log").open("a") as log: print(os.getpid(), __name__, file=log)
"""


def write(folder, files):
    """Make a plugin of files."""
    folder.mkdir()
    for name, text in files.items():
        lines = [line.removeprefix(" " * 8) for line in text.splitlines()]
        (folder / f"{name}.py").write_text(NOTE + "\n".join(lines) + "\n", encoding="utf-8")
    return folder


@pytest.fixture
def plugin(tmp_path):
    return write(tmp_path / "plugged_penalty", FILES)


def imported(folder):
    """Return what each process imported of a plugin, by the process's number."""
    found: dict[int, list[str]] = {}
    for line in (folder.parent / "log").read_text(encoding="utf-8").splitlines():
        number, name = line.split()
        found.setdefault(int(number), []).append(name.removeprefix(folder.name).removeprefix("."))
    return found


def test_main_job(plugin, tmp_path):
    """The twins agree on what the plugin brings, and each trains with it in a process of its own."""
    small = ["--preset", "plugged", "--data", "digits", "--epochs", "1", "--out", str(tmp_path / "run")]
    command = [sys.executable, "-m", "benchmarks", *small, "--plugin", "plugged_penalty"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=1200)
    assert done.returncode == 0, done.stderr
    report = json.loads((tmp_path / "run" / "report.json").read_text(encoding="utf-8"))
    assert report["verdict"] == "pass"
    assert report["spec"]["penalties"] == [{"kind": "plugged_small", "weight": 0.01}]
    assert any("plugged_small" in check["name"] for check in report["parity"])
    assert sorted(imported(plugin).values()) == [["", "jax"], ["", "jax", "torch"], ["", "torch"]]


@pytest.mark.parametrize("side", ["jax", "torch"])
def test_workers_of_the_race(plugin, tmp_path, monkeypatch, side):
    monkeypatch.setenv(VARIABLE, str(plugin))
    worker = Process(variables(side, tmp_path / "cache"))
    try:
        opening = {"side": side, "workload": workload_to_json(WORKLOADS["tiny-dense"])}
        variant = "default" if side == "jax" else "eager"
        worker.ask({"do": "open", **opening, "variant": variant, "values": str(tmp_path / "values.npy")}, 120)
        assert imported(plugin) == {worker.child.pid: ["", side]}
    finally:
        worker.close()


@pytest.fixture
def _clean(monkeypatch):
    """Leave variable, path and modules as they were."""
    monkeypatch.setenv(VARIABLE, "")
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield
    for name in [name for name in sys.modules if name.startswith("plugged")]:
        del sys.modules[name]


@pytest.mark.usefixtures("_clean")
@pytest.mark.parametrize(
    ("argv", "halves"),
    [
        (("{plugin}", "race", "--out", "out", "--rounds", "1"), ["jax", "torch"]),
        (("race", "--out", "out", "--rounds", "1", "{plugin}"), ["jax", "torch"]),
        (("--out", "out", "{plugin}", "--preset", "no such preset"), ["jax", "torch"]),
        (("report", "{plugin}", "no such race"), []),
        (("compare", "no such race", "{plugin}", "nor such a one"), []),
    ],
)
def test_every_command_takes_them(tmp_path, monkeypatch, capsys, argv, halves):
    plugin = write(tmp_path / "plugged_bare", {"__init__": "", "jax": "", "torch": ""})
    monkeypatch.chdir(tmp_path)
    arguments = [argument.replace("{plugin}", f"--plugin={plugin}") for argument in argv]
    assert run_program(NAME, lambda: run_command(arguments)) == 2
    said = capsys.readouterr()
    assert said.err.count("\n") == 1
    assert "plugin" not in said.err
    assert imported(plugin) == {os.getpid(): ["", *halves]}
    assert {path.name for path in tmp_path.iterdir()} == {"plugged_bare", "log"}


@pytest.mark.usefixtures("_clean")
@pytest.mark.parametrize("command", [("race",), ()])
def test_a_broken_half_is_refused_before_anything_runs(tmp_path, capsys, command):
    plugin = write(tmp_path / "plugged_broken", {"__init__": "", "torch": "1 / 0"})
    argv = [*command, "--out", str(tmp_path / "out"), "--plugin", str(plugin)]
    assert run_program(NAME, lambda: run_command(argv)) == 2
    said = capsys.readouterr()
    assert said.err.startswith(f'{NAME}: {VARIABLE}: given "{plugin}"; importing plugged_broken.torch raised Zero')
    assert said.err.count("\n") == 1
    assert not (tmp_path / "out").exists()
