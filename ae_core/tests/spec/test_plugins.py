"""Plugins: where they are found, what is imported of them, what other processes get, and how a wrong one is refused."""

import os
import subprocess
import sys

import pytest

from ae_core.errors import UserError
from ae_core.spec.plugins import GROUP, VARIABLE, load_plugins

# each import leaves a line in a file beside the plugin
_NOTE = """from pathlib import Path
with Path(__file__).parents[1].joinpath("log").open("a") as log: print(__name__, file=log)
"""


@pytest.fixture(autouse=True)
def _clean(monkeypatch):
    """Leave variable, path and modules as they were."""
    monkeypatch.setenv(VARIABLE, "")
    monkeypatch.setattr(sys, "path", list(sys.path))
    before = set(sys.modules)
    yield
    for name in sys.modules.keys() - before:
        del sys.modules[name]


@pytest.fixture
def make(tmp_path):
    """Return a function that makes a plugin of files, and returns its folder."""

    def make(name, **files):
        folder = tmp_path / "made" / name
        folder.mkdir(parents=True)
        for file, content in {"__init__": "", **files}.items():
            (folder / f"{file}.py").write_text(_NOTE + content, encoding="utf-8")
        return folder

    return make


def _imported(folder):
    log = folder.parent / "log"
    return log.read_text(encoding="utf-8").split() if log.exists() else []


@pytest.mark.parametrize("twin", [None, "jax", "torch"])
@pytest.mark.parametrize("how", ["name", "path", "relative path", "path with a slash", "link", "here"])
def test_a_plugin_and_its_half_are_imported_once(make, monkeypatch, tmp_path, how, twin):
    folder = make("unet", jax="", torch="")
    given = str(folder)
    if how == "name":
        monkeypatch.syspath_prepend(folder.parent)
        given = "unet"
    elif how == "relative path":
        monkeypatch.chdir(tmp_path)
        given = "made/unet"
    elif how == "path with a slash":
        given += "/"
    elif how == "link":
        (tmp_path / "linked").symlink_to(folder, target_is_directory=True)
        given = str(tmp_path / "linked")
    elif how == "here":
        monkeypatch.chdir(folder)
        given = "."
    package = "linked" if how == "link" else "unet"
    expected = [package] if twin is None else [package, f"{package}.{twin}"]
    for _ in range(2):
        load_plugins([given], twin)
    log = tmp_path / "log" if how == "link" else folder.parent / "log"
    assert log.read_text(encoding="utf-8").split() == expected
    assert os.environ[VARIABLE] == (package if how == "name" else str(folder if how != "link" else tmp_path / "linked"))


def test_a_plugin_without_halves_will_do(make):
    folder = make("plain")
    for twin in ("jax", "torch"):
        load_plugins([str(folder)], twin)
    assert _imported(folder) == ["plain"]


def test_a_half_is_loaded_after_the_rest(make):
    """As by a command line, which reads arguments before it has a twin."""
    folder = make("late", torch="")
    load_plugins([str(folder)], None)
    assert _imported(folder) == ["late"]
    load_plugins((), "torch")
    assert _imported(folder) == ["late", "late.torch"]


def _point(folder, name, value):
    info = folder.parent / f"{name}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[{GROUP}]\n{name} = {value}\n")


def test_order_of_the_sources(make, monkeypatch):
    one, two, three, four = (make(name) for name in ("one", "two", "three", "four"))
    monkeypatch.syspath_prepend(one.parent)
    _point(three, "three", "three")
    monkeypatch.setenv(VARIABLE, os.pathsep.join([str(two), "", "one"]))
    load_plugins([str(four), "one"], None)
    assert _imported(one) == ["four", "one", "two", "three"]
    assert os.environ[VARIABLE].split(os.pathsep) == [str(four), "one", str(two)]


def test_other_processes_load_the_same(make, monkeypatch, tmp_path):
    folder = make("handed", torch="")
    monkeypatch.chdir(folder.parent)
    load_plugins(["./handed"], None)
    (folder.parent / "log").unlink()
    code = "from ae_core.spec.plugins import load_plugins; load_plugins((), 'torch')"
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True, timeout=300)
    assert _imported(folder) == ["handed", "handed.torch"]


def test_what_lies_beside_a_plugin_hides_nothing(make):
    folder = make("beside")
    make("json")
    load_plugins([str(folder)], None)
    assert sys.path[-1] == str(folder.parent)
    code = "import sys; from ae_core.spec.plugins import load_plugins; load_plugins((), None); import json; print(json)"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, timeout=300)
    assert str(folder.parent) not in done.stdout


_MISSING = "which is not there or not a package; expected the name of a package that can be imported, or the path of"
_RAISED = "expected a package that can be imported"
WRONG = {
    "nothing there": ("no_such_plugin", {}, 'given "no_such_plugin", ' + _MISSING),
    "no part there": ("json.no_such_plugin", {}, 'given "json.no_such_plugin", ' + _MISSING),
    "no path there": ("{made}/no_such_plugin", {}, _MISSING),
    "neither name nor path": ("a b", {}, 'given "a b", ' + _MISSING),
    "a module": ("bisect", {}, 'given "bisect", ' + _MISSING),
    "a file": ("{made}/file/__init__.py", {"file": {}}, _MISSING),
    "a folder without __init__": ("{made}", {"x": {}}, "expected a folder with an __init__.py"),
    "a name that is no identifier": ("{made}/my-plugin", {"my-plugin": {}}, "whose name is a Python identifier"),
    "the name of another package": ("{made}/email", {"email": {}}, "but its name finds "),
    "a path of two": ("{made}/a:b/c", {"a:b/c": {}}, 'expected a path without ":"'),
    "no import": ("{made}/needy", {"needy": {"__init__": "import no_such_module"}},
                  "importing needy raised ModuleNotFoundError: No module named 'no_such_module' "
                  f"({{made}}/needy/__init__.py, line 3); {_RAISED}"),
    "no import of its own": ("{made}/hollow", {"hollow": {"__init__": "import hollow.no_such_module"}},
                             "importing hollow raised ModuleNotFoundError: No module named 'hollow.no_such_module'"),
    "no syntax": ("{made}/sloppy", {"sloppy": {"__init__": "def"}}, "importing sloppy raised SyntaxError: "),
    "an error of two lines": ("{made}/odd", {"odd": {"__init__": "raise ValueError('one\\ntwo')"}},
                              "importing odd raised ValueError: one"),
    "an error without words": ("{made}/mute", {"mute": {"__init__": "assert False"}}, "raised AssertionError ("),
    "the end of everything": ("{made}/final", {"final": {"__init__": "raise SystemExit"}}, "raised SystemExit ("),
    "a broken half": ("{made}/half", {"half": {"torch": "1 / 0"}},
                      "importing half.torch raised ZeroDivisionError: division by zero ({made}/half/torch.py, line 3)"),
}  # fmt: skip


# a variable cannot hold a path with what separates paths
@pytest.mark.parametrize(
    ("where", "case"), [(w, c) for w in ("--plugin", VARIABLE) for c in WRONG if (w, c) != (VARIABLE, "a path of two")]
)
def test_what_is_no_plugin_is_refused(make, tmp_path, monkeypatch, where, case):
    given, plugins, expected = WRONG[case]
    for name, files in plugins.items():
        make(name, **files)
    given, expected = (text.replace("{made}", str(tmp_path / "made")) for text in (given, expected))
    if where == VARIABLE:
        monkeypatch.setenv(VARIABLE, given)
    before = os.environ[VARIABLE]
    with pytest.raises(UserError) as caught:
        load_plugins([given] if where == "--plugin" else [], "torch")
    assert str(caught.value).startswith(f'{where}: given "')
    assert expected in str(caught.value)
    assert os.environ[VARIABLE] == before


def test_a_broken_entry_point_is_named(make, monkeypatch):
    folder = make("broken", __init__="1 / 0")
    monkeypatch.syspath_prepend(folder.parent)
    _point(folder, "shiny", "broken")
    with pytest.raises(
        UserError, match=rf'^entry point "shiny" of {GROUP}: given "broken"; importing broken raised Zero'
    ):
        load_plugins((), None)


def test_ctrl_c_is_no_fault_of_the_plugin(make):
    with pytest.raises(KeyboardInterrupt):
        load_plugins([str(make("slow", __init__="raise KeyboardInterrupt"))], None)


def test_no_plugins_cost_nothing():
    path = list(sys.path)
    for twin in (None, "jax", "torch"):
        load_plugins((), twin)
    assert sys.path == path
    assert os.environ[VARIABLE] == ""
