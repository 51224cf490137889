"""A batch divided over devices and parts trains as a whole one does; no device waits for another for ever."""

import json
import multiprocessing
import os
import subprocess
import sys
from pathlib import Path

import pytest

from parity_tests.quickly import options as quick_options

LIMIT = 1e-12
"""Sums of up to 16 float64 shares in another order: 16 roundings of 1.1e-16, and what one pass amplifies them by."""


def work(*arguments, quickly=False):
    """Run mesh_work.py in a process with eight devices; quickly, what takes longer to compile than to run."""
    options = quick_options().items() if quickly else ()
    flags = [os.environ.get("XLA_FLAGS", ""), *(f"--{name}={str(value).lower()}" for name, value in options)]
    script = Path(__file__).with_name("mesh_work.py")
    done = subprocess.run(
        [sys.executable, "-W", "error", script, *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        timeout=1200,
        env=os.environ | {"XLA_FLAGS": " ".join(flags)},
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_any_mesh_and_any_cut_train_the_same():
    rows = work("gradients", quickly=True)
    assert len(rows) == 2 * 2 * 6
    assert {row["devices"] for row in rows} == {1, 2, 4, 8}
    assert max(row["gradient"] for row in rows) <= LIMIT
    # over an epoch, whose last batch is shorter; by SGD, which adds errors up and divides by none of them
    epochs = [row for row in rows if "state" in row]
    assert {row["devices"] > 1 for row in epochs} == {True}
    assert max(row["terms"] for row in epochs) <= LIMIT
    assert max(row["state"] for row in epochs) <= LIMIT
    # sums in another order are not bit-equal: the meshes really were others
    assert max(row["gradient"] for row in rows if row["devices"] == 8 and row["batch"] == 16) > 0


def test_inference_on_a_mesh_is_the_same():
    assert max(work("inference", quickly=True)) <= LIMIT


def _burn():
    while True:
        pass


@pytest.mark.parametrize("devices", [2, 4, 8])
def test_ten_thousand_steps_beside_a_busy_core(devices):
    """Programs that pile up would deadlock in the all-reduce after some hundred steps, and abort the process."""
    busy = multiprocessing.get_context("spawn").Process(target=_burn, daemon=True)
    busy.start()
    try:
        result = work("stress", devices, 10_000)
    finally:
        busy.kill()
        busy.join()
    assert result["steps"] == 10_000
    assert 0 < result["loss"] < 1


def test_threads_take_turns():
    """Two trainings and an inference at once could hold threads that the others' all-reduce waits for."""
    found = work("threads", 2_000)
    assert found["encoded"] > 0
    assert found["most"] == 1
    assert found["together"] == found["alone"]
