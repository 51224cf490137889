"""Options and paths that the command line refuses: one line, exit status 2, nothing left behind."""

import os

import pytest

from ae_core.tests.commands.command_line import TRAIN, TWINS, run

_SMALL = (*TRAIN, "--preset", "dense-digits", "--data", "digits")

BAD_OPTIONS = {
    "unknown preset": (
        (*TRAIN, "--data", "digits", "--preset", "dense-digts"),
        'unknown preset "dense-digts"; did you mean "dense-digits"?',
    ),
    "unknown preset in info": (("info", "--preset", "foster"), 'unknown preset "foster"; did you mean "foster-ae"?'),
    "preset and spec": ((*_SMALL, "--spec", "{in}/spec.json"), "given both --preset and --spec; expected one of them"),
    "info of nothing": (("info",), "expected exactly one of --weights, --preset and --spec"),
    "info of two": (("info", "--preset", "foster-ae", "--spec", "{in}/spec.json"), "expected exactly one of"),
    "spec that is a folder": ((*TRAIN, "--data", "digits", "--spec", "{in}"), "Is a directory"),
    "unknown data": ((*_SMALL[:-1], "digit"), 'no data set, file or folder "digit": did you mean "digits"?'),
    "no epochs": ((*_SMALL, "--epochs", "0"), "epochs: given 0; expected an integer from 1 to"),
    "no batch": ((*_SMALL, "--batch-size", "0"), "batch_size: given 0"),
    "learning rate 0": ((*_SMALL, "--learning-rate", "0"), "learning_rate: given 0.0; expected a number above 0"),
    "learning rate inf": ((*_SMALL, "--learning-rate", "inf"), "learning_rate: given inf"),
    "learning rate nan": ((*_SMALL, "--learning-rate", "nan"), "learning_rate: given nan"),
    "nothing held out": ((*_SMALL, "--heldout", "0"), "held-out fraction is 0"),
    "all held out": ((*_SMALL, "--heldout", "1"), "held-out fraction is 1"),
    "no cans": ((*TRAIN, "--preset", "dense-digits", "--count", "0"), "count is 0, must be 1 to"),
    "a count of digits": (
        (*TRAIN, "--preset", "dense-digits", "--data", "digits", "--count", "50"),
        "digits: given a count of 50; expected one for cans or garments alone",
    ),
    "images that do not fit": ((*TRAIN, "--preset", "foster-ae", "--data", "digits"), "images are 8×8×1"),
    "a batch of one": (
        (*TRAIN, "--spec", "{in}/norm.json", "--data", "digits", "--batch-size", "1"),
        "training.batch_size: given 1",
    ),
    "sample of a plain bottleneck": (
        ("sample", "--weights", "{in}/plain", "--out", "{out}/y.npy"),
        'a "plain" bottleneck has no prior to draw from; give --points codes.npy',
    ),
    "no samples": (
        ("sample", "--weights", "{in}/vae", "--out", "{out}/y.npy", "--count", "0"),
        "--count: given 0; expected 1 to",
    ),
}

BAD_OUTPUTS = {
    "missing folder": ("{out}/missing/y.npy", "missing is not a folder"),
    "under a file": ("{out}/file/y.npy", "file is not a folder"),
    "a folder": ("{out}/folder.npy", "it is a folder"),
    "there already": ("{out}/old.npy", "is there already; give --force"),
    "another suffix": ("{out}/y.jpg", 'given the suffix ".jpg"; expected .npy'),
    "no suffix": ("{out}/y", 'given the suffix ""; expected .npy'),
    "too long": ("{out}/" + "x" * 300 + ".npy", "File name too long"),
}

BAD_RUNS = {
    "a file": ("{out}/file", "it is not a folder"),
    "under a file": ("{out}/file/run", "Not a directory"),
    "full": ("{out}/full", "holds something already; give --force"),
    "too long": ("{out}/" + "x" * 300, "File name too long"),
}


@pytest.mark.parametrize("twin", TWINS)
@pytest.mark.parametrize("case", BAD_OPTIONS)
def test_bad_options(refuse, twin, case):
    argv, message = BAD_OPTIONS[case]
    refuse(twin, argv, message)


@pytest.mark.parametrize("twin", TWINS)
@pytest.mark.parametrize("case", BAD_OUTPUTS)
def test_bad_output(refuse, twin, case):
    out, message = BAD_OUTPUTS[case]
    for argv in (
        ("encode", "--weights", "{in}/plain", "--images", "{in}/x.npy"),
        ("reconstruct", "--weights", "{in}/plain", "--images", "{in}/x.npy"),
        ("decode", "--weights", "{in}/plain", "--codes", "{in}/z.npy"),
        ("sample", "--weights", "{in}/vae"),
    ):
        refuse(twin, (*argv, "--out", out), message)


@pytest.mark.parametrize("twin", TWINS)
@pytest.mark.parametrize("case", BAD_RUNS)
def test_bad_folder_for_a_run(refuse, twin, case):
    out, message = BAD_RUNS[case]
    refuse(twin, ("train", "--preset", "dense-digits", "--data", "digits", "--out", out), message)


@pytest.mark.parametrize("twin", TWINS)
@pytest.mark.parametrize("suffix", [".npy", ".png"])
def test_a_full_disk(refuse, monkeypatch, twin, suffix):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    argv = ("reconstruct", "--weights", "{in}/plain", "--images", "{in}/x.npy", "--out", "{out}/y" + suffix)
    refuse(twin, argv, "cannot be written: No space left on device")


@pytest.mark.parametrize("twin", TWINS)
@pytest.mark.parametrize("argv", [(), ("trian",), ("train",), ("train", "--out", "{out}/run", "--epochs", "many")])
def test_usage_errors(tmp_path, capsys, twin, argv):
    assert run(twin, *(a.replace("{out}", str(tmp_path)) for a in argv)) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.startswith(f"ae-{twin}: ")
    assert shown.err.endswith("--help\n")
    assert shown.err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []
