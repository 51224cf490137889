"""The README is true: its code runs, its commands run, its numbers hold."""

import json
import re
import shlex
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import get_args

import numpy as np
import pytest

from ae_core.commands.cli import load_engine, main
from ae_core.commands.menu import Command
from ae_core.data import DataOptions, load, split
from ae_core.metrics import mse, pca_mse
from ae_core.spec.presets import PRESETS
from ae_core.training.loop import train
from benchmarks.race.journal import read_journal
from benchmarks.report.analysis import analyse
from benchmarks.report.report import markdown
from benchmarks.report.tables import verdict
from parity_tests.check import FLOAT32_LIMIT, IDENTITY_LIMIT
from parity_tests.gates.drift import FACTOR, UNITS
from parity_tests.gates.trajectory import CONTROL_FACTOR, FLOAT64_LIMIT

README = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def test_python_runs(tmp_path):
    assert blocks("python")
    for code in blocks("python"):
        subprocess.run([sys.executable, "-W", "error", "-c", code], check=True, cwd=tmp_path, timeout=600)
    assert {path.name for path in tmp_path.iterdir()} == {"weights.safetensors", "atlas.html"}


def test_commands_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    lines = [line for block in blocks("sh") for line in block.splitlines() if line.startswith("ae-")]
    commands = {command.__metadata__[0].name for command in get_args(Command)}
    assert {shlex.split(line)[1] for line in lines} == commands
    for line in lines:
        program, *arguments = shlex.split(line)
        if arguments[0] == "train":
            arguments += ["--epochs", "1"]  # the flags, not the wait
            arguments += [] if "digits" in arguments else ["--count", "300"]
        assert main(program.removeprefix("ae-"), arguments) == 0, line
    assert np.load("codes.npy").shape == (64, 2)
    assert np.load("images.npy").shape == (64, 32, 32, 1)


def test_numbers():
    limits = re.findall(r"^\|.*\| (.+) \|$", README[README.index("## How the proof works") :], re.MULTILINE)
    for limit in (
        f"{IDENTITY_LIMIT:.0e}",
        f"{UNITS['float32']:g} units",
        f"{FACTOR:g}",
        f"{FLOAT32_LIMIT:.0e}",
        f"{FLOAT64_LIMIT:.0e}",
        f"{CONTROL_FACTOR:g} × the control",
    ):
        assert limit.replace("e-0", "e-") in limits
    sentence = README[README.index("Presets: ") :].partition("\n\n")[0]
    assert set(re.findall(r"`([\w-]+)`", sentence)) == set(PRESETS)


class Silent:
    def progress(self, *arguments):
        pass

    def epoch(self, *arguments):
        pass


CLAIMS = {"cans": (3, DataOptions()), "digits": (15, DataOptions(adapt="resize"))}


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("twin", ["jax", "torch"])
@pytest.mark.parametrize("name", CLAIMS)
def test_foster_ae_beats_pca(name, twin):
    """Two latents against two principal components, mean squared error on images that neither has seen."""
    epochs, options = CLAIMS[name]
    assert re.search(rf"on `{name}`[^,.]* after (its )?{epochs}\b", README)
    spec = PRESETS["foster-ae"]
    spec = replace(spec, training=replace(spec.training, epochs=epochs))
    images = load(name, spec.input_shape, options).images
    trained, heldout = split(len(images), 0.1, 0)
    engine = load_engine(twin)
    result = train(engine, spec, images[trained], images[heldout], 0, Silent(), lambda tensors: None)
    recon = engine.infer(spec, result.tensors).reconstruct(images[heldout])
    assert mse(images[heldout], recon) < pca_mse(images[trained], images[heldout], 2)


RESULTS = Path(__file__).parents[1] / "results"


def test_the_race_in_the_readme_is_the_one_that_was_run():
    """The records give the results, the results the report, and its first table stands in the README."""
    result = json.loads((RESULTS / "race.json").read_text(encoding="utf-8"))
    assert json.loads(json.dumps(analyse(read_journal(RESULTS)))) == result
    report = markdown(result)
    assert (RESULTS / "report.md").read_text(encoding="utf-8") == report
    targets = report[report.index("| Target |") :].split("\n\n")[0]
    assert targets.count("\n") > 15
    assert targets in README
    assert verdict(result)[1] in README
    assert result["environment"]["date"] in README
