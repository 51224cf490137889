"""The tables, verdict and figures of a report, from results made by hand."""

import pytest

from ae_core.figures.charts import PALETTE
from benchmarks.report.analysis import analyse
from benchmarks.report.plots import plots
from benchmarks.report.tables import NONE, tables, verdict

SHARES = {"products": 0.6, "elementwise": 0.2, "copies": 0.1, "all-reduce": 0.0, "rest": 0.1}
COLD = {"import": 1.0, "trace": 0.1, "lower": 0.2, "compile": 0.7, "build": 0.5, "first": 1.5}
ROW = {
    "workload": "foster-ae-128",
    "side": "jax",
    "label": "ours, JAX",
    "variant": "default",
    "best": True,
    "reason": None,
    "images_per_second": 3200.0,
    "ci": [3100.0, 3300.0],
    "milliseconds": 40.0,
    "gflops": 300.0,
    "operations": 12e9,
    "bytes": 1e8,
    "share_of_peak": 0.6,
    "cold": COLD,
    "warm": {"first": 0.4},
    "call_milliseconds": None,
    "break_even_step": 12_345,
    "peak_bytes": 350e6,
    "temporary_bytes": 20e6,
    "shares": SHARES,
}
THEIRS = ROW | {
    "side": "torch",
    "label": "ours, PyTorch",
    "variant": "channels_last",
    "milliseconds": 80.0,
    "images_per_second": 1600.0,
    "temporary_bytes": None,
    "share_of_peak": None,
    "break_even_step": None,
}
LOST = {
    **dict.fromkeys(ROW),
    "workload": "w",
    "side": "pythae",
    "label": "pythae",
    "variant": "eager",
    "reason": "died",
}
RATIO = {
    "workload": "foster-ae-128",
    "ratio_best": 2.0,
    "ci": [1.9, 2.1],
    "ratio_default": None,
    "ci_default": None,
    "noise": 0.034,
    "beyond_noise": 1,
    "best_jax": "default",
    "best_torch": "channels_last",
}
QUALITY = {
    "workload": "q",
    "label": "ours, PyTorch",
    "variant": "compile",
    "target": 0.3,
    "reached": 4,
    "seeds": 5,
    "seconds": 12.34,
    "ci": [11.0, 14.0],
    "ratio": 1.5,
    "ratio_ci": [1.2, 1.9],
    "reason": None,
}
TARGETS = [
    {"target": "one", "right": "at least 1.6", "value": 2.0, "ci": [1.9, 2.1], "reached": True, "short": 0.0},
    {"target": "two", "right": "at least 2.5", "value": 2.0, "ci": [1.9, 2.1], "reached": False, "short": 0.2}
    | {"workload": "foster-ae-128", "needed": 32.0},
    {"target": "three", "right": "at most 1", "value": None, "ci": None, "reached": None},
]
RESULT = analyse([]) | {
    "rows": [ROW, THEIRS, LOST],
    "ratios": [RATIO],
    "peers": [{"workload": "foster-ae-128", "label": "pythae", "ratio": 2.2, "ci": [2.1, 2.3]}],
    "quality": [QUALITY],
    "targets": TARGETS,
    "peak": {"gflops": 400.0, "gbytes": 40.0},
}


@pytest.fixture(scope="module")
def made():
    return {table.title: table for table in tables(RESULT)}


def test_every_row_has_a_cell_for_each_column(made):
    assert len(made) == 9
    for table in made.values():
        assert all(len(row) == len(table.head) for row in table.rows), table.title


def test_cells(made):
    rows = {title: table.rows for title, table in made.items()}
    assert rows["Targets"] == [
        ["one", "at least 1.6", "2.00", "1.90–2.10", "reached"],
        ["two", "at least 2.5", "2.00", "1.90–2.10", "missed by 20 %"],
        ["three", "at most 1", NONE, NONE, "not measured"],
    ]
    assert made["Targets"].failed == {1}
    spent = ["60 %", "20 %", "10 %", "0 %", "10 %"]
    assert rows["Missed by how much and why"] == [["two", "40", "32", "30", *spent]]  # 12e9 operations at 400e9
    assert rows["On what a step is spent"][1] == ["foster-ae-128: ours, PyTorch, channels_last", "80", "30", *spent]
    ratio = ["2.00 ×", "1.90–2.10", NONE, NONE, "± 3.4 %", "faster", "default", "channels_last"]
    assert rows["JAX against PyTorch"] == [["foster-ae-128", *ratio]]
    assert rows["Against others"] == [["foster-ae-128, pythae", "2.20 ×", "2.10–2.30"]]
    name = "foster-ae-128: ours, JAX, default"
    assert rows["Speed"][0] == [f"{name} (best)", "3,200", "40", "300", "60 %", "350 MB", "20 MB"]
    assert rows["Speed"][1][4:] == [NONE, "350 MB", NONE]
    assert len(rows["Speed"]) == 2  # entries without a number are in the last table
    stages = ["1.00", "0.10", "0.20", "0.70", "1.50", "0.40"]
    assert rows["Where the time goes"][0] == [name, *stages, NONE, "12,345"]
    trained = ["0.3", "4 of 5", "12.3", "11.00–14.00", "1.50 ×", "1.20–1.90"]
    assert rows["Time to quality"] == [["q: ours, PyTorch, compile", *trained]]
    assert rows["Without a number"] == [["w: pythae, eager", "died"]]


def test_verdict():
    assert verdict(RESULT) == (False, "1 targets reached, 1 missed, 1 not measured")
    assert verdict(RESULT | {"targets": TARGETS[:1]})[0]
    assert not verdict(RESULT | {"targets": TARGETS[:1], "neighbours": 0.5})[0]
    assert not verdict(RESULT | {"targets": TARGETS[2:]})[0]  # nothing reached


def test_plots():
    made = list(plots(RESULT).values())
    assert len(made) == 5
    ratios, speeds, roof, spent, starts = (figure.axes[0] for figure in made)
    for axes in (ratios, speeds, roof, spent, starts):
        assert axes.get_xlabel()
        assert axes.get_legend()
    middle = ratios.containers[0].lines[0]
    assert middle.get_xdata().tolist() == [2.0]
    assert sorted(bar.get_width() for bars in speeds.containers for bar in bars) == [0.5, 1.0]
    assert {text.get_text() for text in speeds.texts} == {" 3,200", " 1,600"}
    found = {c.get_label(): c.get_offsets().tolist() for c in roof.collections}
    assert found["ours, JAX"] == [[120.0, 300.0]]  # 12e9 operations over 1e8 bytes
    top = roof.lines[0]
    assert top.get_ydata().max() == 400
    assert (top.get_ydata() <= top.get_xdata() * 40 + 1e-9).all()
    bars = [[bar.get_width() for bar in container] for container in spent.containers]
    assert bars == [[pytest.approx(100 * share)] * 2 for share in SHARES.values()]
    stages = [container[0].get_width() for container in starts.containers]
    assert stages == pytest.approx([1.0, 0.1, 0.2, 0.7, 1.0])  # other: 0.5 + 1.5 without the three before
    assert len(PALETTE) >= len(stages)


def test_plots_of_nothing():
    assert plots(analyse([])) == {}
