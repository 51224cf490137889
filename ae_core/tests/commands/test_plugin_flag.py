"""The flag --plugin of the command line, on both twins: where it may stand, what it brings, and how it is refused."""

import json
import re
import subprocess
import sys
from typing import get_args

import pytest

from ae_core.commands.menu import Command
from ae_core.spec.plugins import VARIABLE
from ae_core.spec.presets import _PRESETS
from ae_core.tests.commands.command_line import TWINS, one_line, run

_PRESET = """
from dataclasses import replace
from ae_core.spec.presets import preset, register_preset
register_preset("{name}", replace(preset("dense-digits"), input_shape=(4, 4, 1)))
"""
_HALF = "import ae_{twin}.engine\nprint('{name} of {twin}')\n"


@pytest.fixture(autouse=True)
def _clean(monkeypatch):
    """Leave variable, path, modules and presets as they were."""
    monkeypatch.setenv(VARIABLE, "")
    monkeypatch.setattr(sys, "path", list(sys.path))
    modules, presets = set(sys.modules), dict(_PRESETS)
    yield
    for name in sys.modules.keys() - modules:
        if name.startswith("plugged"):
            del sys.modules[name]
    _PRESETS.clear()
    _PRESETS.update(presets)


@pytest.fixture
def make(tmp_path):
    """Return a function that makes a plugin with a preset of its own name, and returns its folder."""

    def make(name):
        folder = tmp_path / "made" / name
        folder.mkdir(parents=True)
        (folder / "__init__.py").write_text(_PRESET.format(name=name))
        for twin in TWINS:
            (folder / f"{twin}.py").write_text(_HALF.format(twin=twin, name=name))
        return folder

    return make


PLACES = {
    "before the command": ("--plugin", "{one}", "info", "--preset", "plugged_one"),
    "behind the command": ("info", "--plugin", "{one}", "--preset", "plugged_one"),
    "at the end": ("info", "--preset", "plugged_one", "--plugin", "{one}"),
    "with =": ("info", "--plugin={one}", "--preset", "plugged_one"),
    "again": ("--plugin={two}", "info", "--preset", "plugged_two", "--plugin", "{one}"),
}


@pytest.mark.parametrize("twin", TWINS)
@pytest.mark.parametrize("place", PLACES)
def test_a_preset_of_a_plugin(make, capsys, twin, place):
    folders = {"one": make("plugged_one"), "two": make("plugged_two")}
    argv = [argument.format(**folders) for argument in PLACES[place]]
    assert run(twin, *argv) == 0
    said = capsys.readouterr()
    assert said.err == ""
    loaded = ["two", "one"] if place == "again" else ["one"]
    halves = "".join(f"plugged_{name} of {twin}\n" for name in loaded)
    assert said.out.startswith(halves + "{\n")
    assert json.loads(said.out[len(halves) : said.out.index("\n}\n") + 3])["input_shape"] == [4, 4, 1]


@pytest.mark.parametrize("twin", TWINS)
def test_the_variable_will_do(make, twin, monkeypatch, capsys):
    monkeypatch.setenv(VARIABLE, str(make("plugged_one")))
    assert run(twin, "info", "--preset", "plugged_one") == 0
    assert capsys.readouterr().out.startswith(f"plugged_one of {twin}\n")


def test_as_a_program(make, tmp_path):
    command = [
        sys.executable,
        "-m",
        "ae_torch",
        "train",
        "--preset",
        "plugged_one",
        "--plugin",
        str(make("plugged_one")),
    ]
    flags = ["--data", "cans", "--count", "20", "--epochs", "1", "--out", str(tmp_path / "run")]
    done = subprocess.run([*command, *flags], capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("plugged_one of torch\n")
    assert json.loads((tmp_path / "run" / "report.json").read_text())["spec"]["input_shape"] == [4, 4, 1]


WRONG = {
    "nothing": (("info", "--preset", "foster-ae", "--plugin"), "--plugin: given nothing; expected the name of"),
    "nothing behind =": (("info", "--plugin=", "--preset", "foster-ae"), "--plugin: given nothing; expected"),
    "another flag": (("info", "--plugin", "--preset", "foster-ae"), '--plugin: given "--preset"; expected'),
    "what is not there": (("--plugin", "plugged_none", "--help"), '--plugin: given "plugged_none", which is not there'),
    "without it": (("info", "--preset", "plugged_one"), 'unknown preset "plugged_one"'),
}


@pytest.mark.parametrize("twin", TWINS)
@pytest.mark.parametrize("case", WRONG)
def test_what_is_refused(capsys, twin, case):
    argv, message = WRONG[case]
    assert run(twin, *argv) == 2
    one_line(capsys, twin, message)


@pytest.mark.parametrize("twin", TWINS)
def test_a_half_that_fails(make, capsys, twin):
    folder = make("plugged_one")
    (folder / f"{twin}.py").write_text("raise ValueError('of two\\nlines')")
    assert run(twin, "info", "--plugin", folder, "--preset", "foster-ae") == 2
    one_line(capsys, twin, f"importing plugged_one.{twin} raised ValueError: of two lines ({folder}/{twin}.py, line 1)")


@pytest.mark.parametrize("command", ["", *(command.__metadata__[0].name for command in get_args(Command))])
def test_help_has_it(monkeypatch, capsys, command):
    monkeypatch.setenv("COLUMNS", "200")
    with pytest.raises(SystemExit, match=r"^0$"):
        run("torch", *command.split(), "--help")
    text = " ".join(re.sub("[│╭╮╰╯─]", " ", capsys.readouterr().out).split())
    assert "--plugin STR Package with components or presets of its own, by its name or its folder's path" in text
