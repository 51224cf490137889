"""Output files: whole or not at all, refused before any work is done for them."""

import json
import math
import os
import stat

import numpy as np
import pytest

from ae_core.errors import OutputError
from ae_core.files.output import (
    check_file,
    check_folder,
    clear_folder,
    make_folder,
    write_array,
    write_bytes,
    write_json,
)


def _refused(call, *arguments):
    with pytest.raises(OutputError) as caught:
        call(*arguments)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_bytes(tmp_path):
    path = tmp_path / "a"
    for data in (b"one", b"", b"three"):
        write_bytes(path, data)
        assert path.read_bytes() == data
    assert list(tmp_path.iterdir()) == [path]


def test_permissions_are_those_of_any_new_file(tmp_path):
    write_bytes(tmp_path / "a", b"")
    (tmp_path / "b").write_bytes(b"")
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == stat.S_IMODE((tmp_path / "b").stat().st_mode)


@pytest.mark.parametrize("call", ["fsync", "chmod", "replace"])
@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_a_write_that_fails_leaves_everything_as_it_was(tmp_path, monkeypatch, call, error):
    def fail(*_):
        raise error

    (tmp_path / "old").write_bytes(b"old")
    monkeypatch.setattr(os, call, fail)
    for name in ("old", "new"):
        with pytest.raises(OutputError if isinstance(error, OSError) else KeyboardInterrupt):
            write_bytes(tmp_path / name, b"new")
    assert [path.name for path in tmp_path.iterdir()] == ["old"]
    assert (tmp_path / "old").read_bytes() == b"old"


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("file/a.npy", "Not a directory"),
        ("missing/a.npy", "No such file or directory"),
        ("folder", "Is a directory"),
        ("x" * 300, "File name too long"),
    ],
)
def test_paths_that_cannot_be_written(tmp_path, name, reason):
    (tmp_path / "file").write_bytes(b"kept")
    (tmp_path / "folder").mkdir()
    path = tmp_path / name
    assert _refused(write_bytes, path, b"new") == f"{path}: cannot be written: {reason}"
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["file", "folder"]
    assert (tmp_path / "file").read_bytes() == b"kept"


def test_json_has_null_for_what_json_does_not_know(tmp_path):
    value = {
        "a": [1, 2.5, math.nan, (math.inf, -math.inf)],
        "b": {"c": np.float64("nan"), "d": None, "e": True},
        "f": "NaN",
    }
    write_json(tmp_path / "a.json", value)
    text = (tmp_path / "a.json").read_text()
    read = json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
    assert read == {"a": [1, 2.5, None, [None, None]], "b": {"c": None, "d": None, "e": True}, "f": "NaN"}
    assert text.endswith("}\n")


@pytest.mark.parametrize("array", [np.arange(6.0, dtype=np.float32).reshape(2, 3).T, np.zeros((0, 2)), np.array(3.0)])
def test_array(tmp_path, array):
    write_array(tmp_path / "a.npy", array)
    np.testing.assert_array_equal(np.load(tmp_path / "a.npy", allow_pickle=False), array, strict=True)


def test_array_of_objects_is_refused(tmp_path):
    with pytest.raises(ValueError, match="Object arrays cannot be saved"):
        write_array(tmp_path / "a.npy", np.array([{}]))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("a.txt", 'given the suffix ".txt"; expected .npy or .png'),
        ("a", 'given the suffix ""; expected .npy or .png'),
        ("missing/a.npy", "cannot be written: {folder}/missing is not a folder"),
        ("old.npy/a.npy", "cannot be written: {folder}/old.npy is not a folder"),
        ("folder.npy", "cannot be written: it is a folder"),
        ("old.npy", "is there already; give --force to overwrite it, or another path"),
        ("x" * 300 + ".npy", "cannot be written: File name too long"),
    ],
)
def test_check_file(tmp_path, name, message):
    (tmp_path / "old.npy").write_bytes(b"old")
    (tmp_path / "folder.npy").mkdir()
    path = tmp_path / name
    expected = f"{path}: {message.format(folder=tmp_path)}"
    assert _refused(check_file, path, (".npy", ".png"), False) == expected
    if name == "old.npy":
        check_file(path, (".npy", ".png"), True)
    else:
        assert _refused(check_file, path, (".npy", ".png"), True) == expected


def test_check_file_passes_a_new_one_and_makes_nothing(tmp_path):
    for name in ("a.npy", "a.png"):
        check_file(tmp_path / name, (".npy", ".png"), False)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "force", "message"),
    [
        ("file", False, "cannot be written: it is not a folder"),
        ("file", True, "cannot be written: it is not a folder"),
        ("full", False, "holds something already; give --force to overwrite it, or another folder"),
        ("x" * 300, False, "cannot be written: File name too long"),
    ],
)
def test_check_folder(tmp_path, name, force, message):
    (tmp_path / "file").write_bytes(b"")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / ".hidden").write_bytes(b"")
    assert _refused(check_folder, tmp_path / name, force) == f"{tmp_path / name}: {message}"


def test_check_folder_passes_and_makes_nothing(tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "a").write_bytes(b"")
    check_folder(tmp_path / "empty", False)
    check_folder(tmp_path / "new" / "newer", False)
    check_folder(tmp_path / "full", True)
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["a", "empty", "full"]


def test_clear_folder_takes_away_the_files_of_an_earlier_run_alone(tmp_path):
    folder = tmp_path / "one" / "two"
    make_folder(folder)
    assert list(folder.iterdir()) == []
    for name in ("a", "b", "notes"):
        (folder / name).write_bytes(b"")
    make_folder(folder)
    assert {p.name for p in folder.iterdir()} == {"a", "b", "notes"}
    clear_folder(folder, ("a", "b"))
    assert [p.name for p in folder.iterdir()] == ["notes"]


@pytest.mark.parametrize("name", ["file", "file/run"])
def test_make_folder_where_none_can_be(tmp_path, name):
    (tmp_path / "file").write_bytes(b"kept")
    assert "cannot be written: " in _refused(make_folder, tmp_path / name)
    assert (tmp_path / "file").read_bytes() == b"kept"


def test_make_folder_finds_out_that_it_cannot_write(tmp_path, monkeypatch):
    def full(**_):
        raise OSError(30, "Read-only file system")

    (tmp_path / "a").write_bytes(b"kept")
    monkeypatch.setattr("tempfile.TemporaryFile", full)
    assert _refused(make_folder, tmp_path) == f"{tmp_path}: cannot be written: Read-only file system"
    assert (tmp_path / "a").read_bytes() == b"kept"
