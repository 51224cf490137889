"""The ports in ``examples/pairs``, as a user runs them: the right ones pass, the mistakes are named."""

import json
import re
from pathlib import Path

import pytest

from ae_core.commands.shell import parse
from ae_core.errors import UserError
from parity_tests.pair.command import PairCommand, run_pair_command
from parity_tests.pair.pair import load_pair

FOLDER = Path(__file__).parents[2] / "examples" / "pairs"
WRONG = {"nnx_cnn": "padding", "equinox_mixer": "GELU form", "linen_vit": "eps"}


def run(*arguments):
    return run_pair_command(parse(PairCommand, "pair", [str(argument) for argument in arguments]))


def test_each_example_is_there_right_and_wrong():
    found = {path.stem for path in FOLDER.glob("*.py")}
    assert found == {*WRONG, *(f"{name}_wrong" for name in WRONG)}


@pytest.mark.parametrize("name", WRONG)
def test_right(name, capsys):
    assert run(FOLDER / f"{name}.py") == 0
    assert "PASS  The same model: all" in capsys.readouterr().out


@pytest.mark.parametrize("name", WRONG)
def test_wrong(name, tmp_path, capsys):
    report, page = tmp_path / "pair.json", tmp_path / "pair.html"
    assert run(FOLDER / f"{name}_wrong.py", "--json", report, "--html", page) == 1
    said = capsys.readouterr().out
    assert f"Looks like a trap: {WRONG[name]}, at " in said
    assert "With that mended everything agrees" in said
    assert said.splitlines()[-1] == f"written: {page}"
    written = json.loads(report.read_text())
    assert [finding["trap"] for finding in written["findings"]] == [WRONG[name]]
    assert (written["verdict"], written["mended"]) == ("fail", True)
    assert written["outlier"] in page.read_text()
    places = written["findings"][0]["places"]
    row = re.search(rf"^\| `{name}.py` .*$", (FOLDER / "README.md").read_text(), re.MULTILINE)
    assert row is not None
    assert WRONG[name] in row[0]
    assert all(place.partition(".")[0].rstrip("12") in row[0] or "blocks" in row[0] for place in places)


@pytest.mark.parametrize(
    ("code", "message"),
    [
        (None, r"no such file; expected a Python file that defines jax_apply, jax_params, torch_module, inputs"),
        ("x = 1", r"does not define jax_apply, jax_params, torch_module, inputs"),
        ("1 / 0", r"fails with ZeroDivisionError: division by zero"),
        ("import nothing_of_that_name", r"fails with ModuleNotFoundError"),
        ("def f(:", r"fails with SyntaxError"),
        ("jax_apply = jax_params = torch_module = inputs = 1", r"jax_apply: given int; expected a function"),
    ],
)
def test_file_that_cannot_be_used(code, message, tmp_path):
    path = tmp_path / "pair.py"
    if code is not None:
        path.write_text(code)
    with pytest.raises(UserError, match=message) as caught:
        load_pair(path)
    assert str(caught.value).startswith(str(path))


def test_steps(tmp_path):
    with pytest.raises(UserError, match="--steps: given 0; expected an integer of at least 1"):
        run(FOLDER / "linen_vit.py", "--steps", 0)
