"""Every planted fault is noticed, in one twin or in both; the README's matrix says by what, and by how much."""

import re
from pathlib import Path

import numpy as np
import pytest

from ae_core.commands.shell import run_program
from parity_tests.faults import FAULTS
from parity_tests.faults.mutation import (
    COLUMNS,
    Mutation,
    Row,
    run_fault,
    run_gates,
    run_mutation,
    to_json,
    to_markdown,
)
from parity_tests.faults.planting import Fault
from parity_tests.gates.layers import SINGLE_LAYERS

pytestmark = pytest.mark.usefixtures("unoptimised")
README = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
QUICK = ("layer norm eps 1e-6 for 1e-5", "KL without its half", "data off by one")

MARGIN = 100
"""What a kill is worth at least, in limits: two orders of magnitude, so that no fault is noticed by luck."""


def readme_rows():
    lines = re.findall(r"^\| (.+ \((?:jax|torch|both)\)) \| (.*) \|$", README, re.MULTILINE)
    return {name: [cell.strip() for cell in cells.split("|")] for name, cells in lines}


def exponent(cell):
    return np.inf if cell == "∞" else -np.inf if cell in ("·", "") else int(cell.removeprefix("10^"))


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=pytest.mark.quick) if n.startswith(QUICK) else n for n in FAULTS]
)
def test_fault_is_killed(name):
    row = run_fault(name, FAULTS[name])
    assert row.killers, f"{name} survives every gate: {row.margins}"
    assert max(row.margins.values()) >= MARGIN
    # a fault that only breaks the twin down would show nothing about the gates
    assert np.isfinite([row.margins[column] for column in row.killers if column != "start"]).all()
    # a margin near a power of ten may round to either side on another processor
    written, measured = readme_rows()[name], to_markdown([row]).splitlines()[-1].split("|")[2:-1]
    for column, before, now in zip(COLUMNS, written, measured, strict=True):
        a, b = exponent(before), exponent(now.strip())
        assert a == b or abs(a - b) <= 1, f"{column}: the README says {before}, measured {now.strip()}"


def test_readme_has_exactly_these_faults():
    assert list(readme_rows()) == list(FAULTS)
    assert len(FAULTS) >= 174
    both = sum(fault.twin == "both" for fault in FAULTS.values())
    assert f"\n{len(FAULTS)} faults, planted" in README
    assert f"{len(FAULTS) - both} in one twin, and {both} in both at once" in README


def test_either_twin_and_both_are_hurt():
    for twin in ("jax", "torch", "both"):
        assert sum(fault.twin == twin for fault in FAULTS.values()) >= 20


@pytest.mark.quick
@pytest.mark.parametrize("case", ["dense vae", "conv batch norm", "layer norm far from 0", "bernoulli, saturated"])
def test_healthy_twins_pass_every_column(case):
    margins = run_gates(case)
    assert all(margin <= 1 for margin in margins.values())
    if case in SINGLE_LAYERS:
        assert set(margins) == {"layer"}
    else:
        assert set(COLUMNS) - set(margins) <= {"layer", "state", "oracle", "truth"}
    both = run_gates(case, both=True)
    assert set(both) == ({"layer"} if case in SINGLE_LAYERS else {"oracle"})
    assert all(margin <= 1 for margin in both.values())


def test_a_fault_that_does_nothing_survives():
    """The test above can fail."""
    row = run_fault("nothing", Fault("torch", "dense silu", list))
    assert row.killers == []


def test_a_twin_that_breaks_down_is_killed():
    import ae_torch.engine

    def dead(*arguments):
        raise RuntimeError("dead")

    row = run_fault("dead", Fault("torch", "dense silu", lambda: [(ae_torch.engine.Trainer, "advance", dead)]))
    assert row.margins["20 steps"] == float("inf")
    assert "20 steps" in row.killers


def test_one_fault_alone(capsys):
    assert run_mutation(Mutation(("walk at an uneven pace", "one principal axis"))) == 0
    text = capsys.readouterr().out
    assert "2 faults, 2 noticed; survivors: none" in text
    assert "| one principal axis less (both) |" in text


def test_an_unknown_fault_is_one_line(capsys):
    assert run_program("mutation", lambda: run_mutation(Mutation(("walk at an even pace",)))) == 2
    error = capsys.readouterr().err
    assert '--fault: there is none "walk at an even pace"; did you mean "walk at an uneven pace (both)"?' in error
    assert error.count("\n") == 1


def test_formats():
    rows = [Row("f (jax)", "jax", "c", {"forward": 3e4, "loss": 0.5, "20 steps": float("inf")})]
    assert to_markdown(rows).splitlines()[-1] == "| f (jax) |  |  | 10^4 | · |  |  |  |  | ∞ |  |  |  |"
    assert to_json(rows)[0]["killers"] == ["forward", "20 steps"]
