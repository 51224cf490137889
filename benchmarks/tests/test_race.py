"""The race from end to end on tiny models, its files, its report, and the comparison of two races."""

import copy
import io
import json
import os
import time
from contextlib import redirect_stderr, redirect_stdout
from html import escape
from pathlib import Path

import numpy as np
import pytest
import tyro

from ae_core.commands.shell import run_program
from ae_core.errors import DataError, UserError
from benchmarks.commands import run_command
from benchmarks.race.journal import LINES, Journal, read_journal
from benchmarks.race.load import RECORD, OtherLoad
from benchmarks.race.process import Process, WorkerError, variables
from benchmarks.race.reference import agreement
from benchmarks.race.run import QUICK, Race, run_race
from benchmarks.race.sides import SIDES, choose_sides
from benchmarks.race.workloads import WORKLOADS, choose_workloads
from benchmarks.report.analysis import analyse
from benchmarks.report.compare import changes
from benchmarks.report.report import html, markdown
from benchmarks.report.tables import verdict
from benchmarks.report.targets import TARGETS, judge

FILES = {LINES, "race.json", "report.md", "report.html"}


@pytest.fixture(scope="module")
def raced(tmp_path_factory):
    """A real race of tiny workloads with workers in processes of their own, without variants that compile for long.

    It runs on one core, since two threads that wait for each other hardly advance where others keep a core busy.
    """
    out = tmp_path_factory.mktemp("race") / "out"
    names, sides = ("tiny-dense", "tiny-reconstruct", "tiny-many"), ("jax", "torch", "flax", "pythae")
    said, shown, cores = io.StringIO(), io.StringIO(), os.sched_getaffinity(0)
    os.sched_setaffinity(0, sorted(cores)[:1])
    try:
        with pytest.MonkeyPatch.context() as patch, redirect_stdout(said), redirect_stderr(shown):
            patch.setitem(QUICK, "torch", ("channels_last", "func"))
            assert run_race(Race(out, quick=True, workload=names, side=sides)) == 0
    finally:
        os.sched_setaffinity(0, cores)
    return out, said.getvalue(), shown.getvalue(), json.loads((out / "race.json").read_text(encoding="utf-8"))


def test_files_and_last_line(raced):
    out, said, shown, _ = raced
    assert {path.name for path in out.iterdir()} == FILES
    assert said.splitlines()[-1] == f"race and report: {out / 'report.html'}"
    assert "left]" in shown


def test_results(raced):
    *_, race = raced
    ratios = {ratio["workload"]: ratio for ratio in race["ratios"]}
    assert ratios.keys() == {"tiny-dense", "tiny-reconstruct", "tiny-many"}
    for ratio in ratios.values():
        assert ratio.keys() >= {"workload", "phase", "batch", "ratio_best", "ratio_default", "ci", "noise", "a_a"}
        assert 0 < ratio["ci"][0] <= ratio["ratio_best"] <= ratio["ci"][1]
        assert ratio["a_a"].keys() == {"jax", "torch"}
    for row in race["rows"]:
        assert (row["images_per_second"] is None) == (row["reason"] is not None)
        if row["images_per_second"] is not None:
            assert row["distance"] <= row["limit"] < 1e-5
            assert row["cold"].keys() >= {"import", "build", "first"}
            assert row["rounds"] >= 5
    assert {row["side"] for row in race["rows"] if row["images_per_second"]} >= {"jax", "torch", "flax"}
    assert race["peak"]["gflops"] > 0
    assert race["environment"].keys() >= {"date", "processor", "cores", "jax", "torch"}
    memory = [row["peak_bytes"] for row in race["rows"] if "peak_bytes" in row]
    assert len(memory) >= 6
    assert all(row["warm"].keys() >= {"import", "build", "first"} for row in race["rows"] if "peak_bytes" in row)
    spent = [row["shares"] for row in race["rows"] if "shares" in row]
    assert len(spent) == len(memory)
    assert all(sum(shares.values()) == pytest.approx(1) and shares["products"] > 0 for shares in spent)
    temporary = {row["workload"]: row["temporary_bytes"] for row in race["rows"] if row.get("temporary_bytes")}
    assert temporary["tiny-dense"] > 1_000
    assert all(bytes > 10**7 for bytes in memory)


def test_every_raw_sample_is_kept(raced):
    out, *_, race = raced
    records = read_journal(out)
    blocks = [record for record in records if record["kind"] == "block"]
    assert {record["stage"] for record in blocks} == {"warm-up", "screening", "final"}
    assert all(record["seconds"] >= 0.05 for record in blocks)
    assert json.loads(json.dumps(analyse(records))) == race  # the same records give the same results


def test_report_again(raced, tmp_path, capsys):
    out, *_ = raced
    assert run_command(["report", str(out), "--out", str(tmp_path / "again")]) == 0
    assert capsys.readouterr().out == f"report: {tmp_path / 'again' / 'report.html'}\n"
    for name in ("race.json", "report.md", "report.html"):
        assert (tmp_path / "again" / name).read_bytes() == (out / name).read_bytes()


def test_page(raced):
    out, *_ = raced
    page = (out / "report.html").read_text(encoding="utf-8")
    assert page.count("data:image/png;base64,") == 5
    assert "http" not in page.replace("http-equiv", "")
    for target in TARGETS:
        assert escape(target.what) in page
    text = (out / "report.md").read_text(encoding="utf-8")
    for heading in (
        "Targets",
        "JAX against PyTorch",
        "Speed",
        "On what a step is spent",
        "Where the time goes",
        "Environment",
    ):
        assert f"## {heading}\n" in text
    assert "not measured" in text


def test_missing_side_is_said_to_be_missing(raced):
    *_, race = raced
    side = SIDES["pythae"]
    (row,) = [row for row in race["rows"] if row["side"] == "pythae"]
    assert (row["workload"], row["phase"]) == ("tiny-dense", "train")  # to the others it has nothing to bring
    assert row.get("reason") == (side.refusal(WORKLOADS["tiny-dense"]) or side.missing())
    assert side.missing() in (None, "not run: pythae not installed")


def test_compare(raced, tmp_path, capsys):
    out, *_, race = raced
    assert run_command(["compare", str(out), str(out)]) == 0
    assert "nothing is worse" in capsys.readouterr().out
    slower = copy.deepcopy(race)
    for ratio in slower["ratios"]:
        ratio["noise"] = 0.01
    (tmp_path / "race.json").write_text(json.dumps(slower), encoding="utf-8")
    first = slower["ratios"][0]
    first["ratio_best"], first["ci"] = first["ratio_best"] / 100, [bound / 100 for bound in first["ci"]]
    (tmp_path / "slower.json").write_text(json.dumps(slower), encoding="utf-8")
    assert run_command(["compare", str(tmp_path), str(tmp_path / "slower.json")]) == 1
    assert f"worse: {first['workload']}" in capsys.readouterr().out


def _race(ratio, ci, spread=0.01, cores="2", rate=100.0):
    row = {"workload": "w", "side": "jax", "label": "ours", "variant": "v", "images_per_second": rate}
    return {
        "ratios": [
            {"workload": "w", "ratio_best": ratio, "ci": ci, "ratio_default": None, "ci_default": None, "noise": spread}
        ],
        "rows": [row | {"ci": [rate * 0.99, rate * 1.01] if rate else None}],
        "environment": {"cores": cores},
        "workloads": [{"name": "w"}],
    }


OLD = _race(2.0, [1.9, 2.1])
CHANGES = {
    "the same": (_race(2.0, [1.9, 2.1]), {"same"}),
    "within its intervals": (_race(1.85, [1.75, 1.95]), {"same"}),
    "within the spread of equals": (_race(1.7, [1.6, 1.85], spread=0.1), {"same"}),
    "slower": (_race(1.5, [1.4, 1.6]), {"worse", "same"}),
    "faster": (_race(3.0, [2.9, 3.1]), {"better", "same"}),
    "slower in images a second": (_race(2.0, [1.9, 2.1], rate=90.0), {"worse", "same"}),
    "another machine": (_race(2.0, [1.9, 2.1], rate=10.0, cores="64"), {"same"}),
    "no race of equals": (_race(1.0, [0.9, 1.1], spread=None), {"same"}),
    "another rate, and no race of equals": (
        _race(2.0, [1.9, 2.1], rate=10.0) | {"ratios": []},
        {"gone", "same"},
    ),
    "a twin that no longer agrees": (_race(2.0, [1.9, 2.1]) | {"ratios": []}, {"gone", "same"}),
    "another choice of workloads": (_race(2.0, [1.9, 2.1]) | {"ratios": [], "rows": [], "workloads": []}, set()),
    "a side that no longer agrees": (_race(2.0, [1.9, 2.1], rate=None), {"gone", "same"}),
}


@pytest.mark.parametrize("name", CHANGES)
def test_changes(name):
    new, expected = CHANGES[name]
    assert {change.verdict for change in changes(OLD, new)} == expected


def test_hung_and_dead_workers(tmp_path):
    """What cannot answer is given up, with its last words, and nothing of it is left."""
    environment = variables("torch", tmp_path)
    worker = Process(environment)
    try:
        with pytest.raises(WorkerError, match="no answer within 0 s"):
            worker.ask({"do": "environment", "side": "torch"}, 0.01)
    finally:
        worker.close()
    assert worker.child.returncode is not None
    worker = Process(environment)
    worker.child.kill()
    worker.child.wait()
    with pytest.raises(WorkerError, match="killed by signal 9"):
        worker.ask({"do": "peak"}, 30)
    worker.close()
    worker = Process(environment)
    with pytest.raises(WorkerError, match="AttributeError: "):
        worker.ask({"do": "no such thing"}, 60)
    worker.close()


def test_an_idle_worker_is_stopped(tmp_path):
    worker = Process(variables("torch", tmp_path))
    try:
        worker.ask({"do": "environment", "side": "torch"}, 120)
        state = Path(f"/proc/{worker.child.pid}/stat")
        for _ in range(100):  # the signal takes a moment to arrive
            if state.read_text().rpartition(")")[2].split()[0] == "T":
                break
            time.sleep(0.1)
        else:
            pytest.fail("the worker goes on")
    finally:
        worker.close()


BAD = {
    "workload": (["race", "--out", "x", "--workload", "foster-a-512"], 'did you mean "foster-ae-512"?'),
    "side": (["race", "--out", "x", "--side", "jaxx"], 'did you mean "jax"?'),
    "rounds": (["race", "--out", "x", "--rounds", "2"], "--rounds: given 2; expected at least 5"),
    "report": (["report", "nowhere"], "nowhere: no race to read"),
    "compare": (["compare", "nowhere", "nowhere"], "nowhere: not the results of a race"),
    "flag": (["race", "--outt", "x"], "see python -m benchmarks race --help"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input(name, tmp_path, monkeypatch, capsys):
    arguments, expected = BAD[name]
    monkeypatch.chdir(tmp_path)
    assert run_program("benchmarks", lambda: run_command(arguments)) == 2
    error = capsys.readouterr().err
    assert expected in error
    assert error.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_sides_given_one_by_one_are_all_taken():
    chosen = tyro.cli(Race, args=["--out", "x", "--side", "jax", "--side", "torch", "--workload", "dense-large"])
    assert (chosen.side, chosen.workload) == (("jax", "torch"), ("dense-large",))
    assert [side.name for side in choose_sides(("jax", "jax"))] == ["jax"]
    assert [workload.name for workload in choose_workloads(("tiny-vae",) * 2, quick=False)] == ["tiny-vae"]


def test_a_race_is_not_overwritten(tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(UserError, match="--force"):
        run_command(["race", "--out", str(tmp_path)])
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_journal(tmp_path):
    journal = Journal(tmp_path / LINES)
    journal.add("a", value=np.float64(1.5), missing=float("nan"), several=(1, {"two": np.int64(2)}))
    assert (
        read_journal(tmp_path)
        == journal.records
        == [{"kind": "a", "value": 1.5, "missing": None, "several": [1, {"two": 2}]}]
    )
    with (tmp_path / LINES).open("a", encoding="utf-8") as file:
        file.write("{broken\n")
    with pytest.raises(DataError, match="line 2"):
        read_journal(tmp_path)


def test_report_of_nothing():
    """A race that was interrupted before its first block has a report without numbers."""
    result = analyse([])
    assert result["ratios"] == result["rows"] == []
    assert all(target["reached"] is None for target in result["targets"])
    assert "0 targets reached, 0 missed" in markdown(result)
    assert "FAIL" in html(result, {})


def test_agreement():
    runs = np.array([[1.0, 2.0], [1.0 + 1e-7, 2.0], [1.0, 2.0 + 4e-7]])
    assert agreement(runs[0], runs, True, 1e-8).distance == 0
    found = agreement(np.array([1.0 + 2e-6, 2.0]), runs, True, 1e-8)
    assert found.distance == pytest.approx(2e-6)
    assert found.limit == pytest.approx(1e-8 + 1e-6)  # ten times the furthest control at this step
    assert not found.good
    whole = agreement(np.array([1.0 + 2e-6, 2.0]), runs, False, 1e-8)
    assert whole.distance == pytest.approx(2e-6 / 5**0.5)
    assert not agreement(np.array([np.nan, 2.0]), runs, True, 1.0).good
    assert not agreement(np.ones(3), runs, True, 1.0).good


def _judged(**result):
    empty = {"ratios": [], "peers": [], "rows": [], "inside_loop": []}
    return {row["target"]: row for row in judge(empty | result)}


def test_targets():
    """Each target can be reached and missed; one of being no worse is missed only beyond the interval."""
    ratio = {"workload": "foster-ae-128", "ratio_best": 1.5, "ci": [1.4, 1.7], "beyond_noise": 1}
    what = "foster-ae, training at batch 128, against the best PyTorch"
    missed = _judged(ratios=[ratio])[what]
    assert missed["reached"] is False
    assert missed["short"] == pytest.approx(0.0625)
    assert not missed["certain"]  # 1.6 lies within the interval
    assert _judged(ratios=[ratio | {"ci": [1.4, 1.59]}])[what]["certain"]
    assert _judged(ratios=[ratio | {"ratio_best": 1.6}])[what]["reached"]
    assert not _judged(ratios=[ratio | {"ratio_best": 1.6}])[what]["certain"]
    assert _judged(ratios=[ratio | {"ratio_best": 1.65, "ci": [1.61, 1.7]}])[what]["certain"]
    ours = {"workload": "foster-ae-128", "side": "jax", "best": True, "milliseconds": 40.0, "share_of_peak": 0.8}
    needed = _judged(ratios=[ratio], rows=[ours])[what]
    assert needed["needed"] == pytest.approx(40 * 1.5 / 1.6)  # the others take 60 ms
    assert sum(row["reached"] is not None for row in _judged(ratios=[ratio]).values()) == 1
    assert _judged(ratios=[ratio | {"ratio_best": 9.0, "beyond_noise": 0}])[what]["reached"] is None  # in the spread
    assert _judged(ratios=[ratio | {"beyond_noise": 0}])[what]["reached"] is False  # which hides no miss
    what = "a training step inside a loop of steps, over the same outside, at worst"
    loops = [{"workload": "a", "ratio": 1.3, "ci": [1.2, 1.4]}, {"workload": "b", "ratio": 0.98, "ci": [0.95, 1.01]}]
    judged = _judged(inside_loop=loops)[what]
    assert (judged["value"], judged["reached"]) == (0.98, True)
    assert not _judged(inside_loop=[*loops, {"workload": "c", "ratio": 0.9, "ci": [0.88, 0.93]}])[what]["reached"]
    row = {"workload": "foster-ae-512", "best": True, "ci": [1.0, 2.0], "images_per_second": 1.0}
    memory = [row | {"side": "jax", "peak_bytes": 3}, row | {"side": "torch", "peak_bytes": 2}]
    judged = _judged(rows=memory)["memory at batch 512 over PyTorch's"]
    assert (judged["value"], judged["reached"], judged["short"]) == (1.5, False, 0.5)


def test_other_load():
    """Work of other processes is counted, and the worker's own is not."""
    quiet, busy = OtherLoad(), OtherLoad()
    quiet.busy, quiet.ours, quiet.wall = 3.0, 3.0, 2.0
    busy.busy, busy.ours, busy.wall = 3.0, 1.0, 2.0
    assert quiet.share == 0
    assert busy.share == pytest.approx(1.0 / busy.cores)
    assert OtherLoad().share is None
    result = analyse([{"kind": RECORD, "workload": "w", "stage": "final", "share": 0.4}])
    assert "the machine was busy: others used up to 40 % of its cores" in verdict(result)[1]
    assert not verdict(result)[0]
    assert "busy" not in verdict(analyse([{"kind": RECORD, "stage": "final", "share": 0.01}]))[1]


def test_other_load_reads_the_machine():
    found = OtherLoad()
    found.begin()
    began = time.process_time()
    while time.process_time() < began + 0.2:
        pass
    found.end(0.0)
    assert found.busy >= 0.15  # the loop above, on whichever core, and in ticks of a hundredth
