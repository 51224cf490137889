"""How the command line ends, on both twins: Ctrl-C, a reader that has gone, exit statuses of the scripts."""

import json
import re
import signal
import subprocess
import sys
import sysconfig
import time
from pathlib import Path

import pytest

from ae_core.commands.info import Info
from ae_core.commands.run import FILES
from ae_core.files.weights import load_weights
from ae_core.spec.presets import PRESETS
from ae_core.tests.commands.command_line import TWINS, run, shapes

_LONG = ("train", "--preset", "dense-digits", "--data", "digits", "--epochs", "1000000")


@pytest.mark.parametrize("twin", TWINS)
def test_ctrl_c_leaves_the_best_weights_so_far(tmp_path, twin):
    folder = tmp_path / "run"
    command = [sys.executable, "-m", f"ae_{twin}", *_LONG, "--out", str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            deadline = time.monotonic() + 120
            while not (folder / FILES[0]).exists() and process.poll() is None and time.monotonic() < deadline:
                time.sleep(0.05)
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=600)
        finally:
            process.kill()
    assert process.returncode == 130, err
    assert re.match(r"training interrupted: interrupted in epoch \d+; the weights of epoch \d+ are kept\n", out)
    assert "Traceback" not in err
    spec, tensors = load_weights(folder / FILES[0])
    assert tensors.keys() == shapes(spec).keys()
    report = json.loads((folder / "report.json").read_text())
    assert report["status"] == "interrupted"
    assert report["best_epoch"] <= report["epochs"][-1]["epoch"] < 1_000_000
    assert sorted(path.name for path in folder.iterdir()) == sorted(FILES)


@pytest.mark.parametrize("twin", TWINS)
def test_ctrl_c_elsewhere(monkeypatch, capsys, twin):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(Info, "run", interrupt)
    assert run(twin, "info", "--preset", "foster-ae") == 130
    assert capsys.readouterr() == ("", f"ae-{twin}: interrupted\n")


@pytest.mark.parametrize("twin", TWINS)
def test_console_script(tmp_path, twin):
    script = Path(sysconfig.get_path("scripts")) / f"ae-{twin}"
    result = subprocess.run(
        [script, "info", "--preset", "foster-ea"], cwd=tmp_path, capture_output=True, text=True, timeout=600
    )
    line = f'ae-{twin}: unknown preset "foster-ea"; did you mean "foster-ae"? valid: {", ".join(PRESETS)}\n'
    assert (result.returncode, result.stdout, result.stderr) == (2, "", line)


@pytest.mark.parametrize("twin", TWINS)
def test_a_reader_that_has_gone(twin, monkeypatch):
    monkeypatch.delenv("PYTHONUNBUFFERED", raising=False)  # with it, nothing is left to flush at exit
    command = f"{sys.executable} -m ae_{twin} info --preset foster-ae | true"
    result = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=600)
    assert (result.returncode, result.stderr) == (0, "")
