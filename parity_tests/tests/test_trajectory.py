"""A thousand steps: every preset in float64, smooth nets in float32 beside the control; and the gate can fail."""

import json
from dataclasses import replace

import numpy as np
import pytest

import ae_torch
from ae_core.data import cans
from ae_core.errors import SpecError
from ae_core.figures.charts import save_figure
from ae_core.files.weights import is_state
from ae_core.spec import spec_to_json
from ae_core.spec.presets import PRESETS
from parity_tests.cases import CASES, SMOOTH, images_of
from parity_tests.check import worst
from parity_tests.curve import Curve, run_curve
from parity_tests.gates import trajectory
from parity_tests.gates.identity import with_precision
from parity_tests.gates.trajectory import (
    CONTROL_FACTOR,
    CONTROL_FLOOR,
    FLOAT64_LIMIT,
    check_trajectory,
    diverge,
    figure,
    in_batches,
    judge,
    marks_up_to,
    moved_by_one_ulp,
    start_of,
)

STEPS = 1000
FEWER, MANY_TENSORS = 50, 32
"""Steps of a net of more tensors than that: the residual rows move one ulp to percents within some hundred steps, where
a control holds nothing any more."""


def steps_of(spec):
    return STEPS if len(ae_torch.build(spec).shapes) <= MANY_TENSORS else FEWER


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("name", PRESETS)
def test_float64(name, hold):
    """The presets in batches of 4 images of cans; of convolutions, slow in float64, on images of half the side.

    All their layers are there, and the same numbers of steps, channels and roundings of a sum over channels.
    """
    spec, count = in_batches(PRESETS[name], 4)
    height, width, channels = spec.input_shape
    if len(spec.backbone.feature_shape(spec.input_shape)) == 3:
        height, width = height // 2, width // 2
        spec = replace(spec, input_shape=(height, width, channels))
    hold(check_trajectory(spec, cans(count, (height, width), 0, channels).images, 0, STEPS, "float64"))


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("name", SMOOTH)
def test_float32_of_smooth_nets(name, hold):
    spec, count = in_batches(CASES[name], 8)
    checks = check_trajectory(spec, images_of(spec, count=count), 0, steps_of(spec), "float32")
    assert len(checks) == len(marks_up_to(steps_of(spec)))
    hold([check._replace(limit=1.0, worst=check.worst / check.limit) for check in checks])


@pytest.mark.quick
def test_float32_with_kinks_is_reported_and_not_gated():
    spec, count = in_batches(CASES["dense vae"], 8)
    images = images_of(spec, count=count)
    assert not spec.is_smooth
    assert check_trajectory(spec, images, 0, 5, "float32") == []
    divergence = diverge(with_precision(spec, "float32"), images, 0, 5)
    assert judge(divergence) == []
    assert np.isfinite(divergence.twins).all()
    assert len(divergence.twins) == len(divergence.control) == 3


def test_smooth_nets():
    assert not PRESETS["foster-ae"].is_smooth
    assert all(CASES[name].is_smooth for name in SMOOTH)
    assert CASES["dense linear"].backbone.activation == "relu"
    assert set(SMOOTH) >= {"dense silu", "conv gelu_tanh", "residual blocks"}


QUICK = 40
"""Steps of the faulty trainings."""


def wrong(change):
    """Replace what the PyTorch twin does with its steps."""
    original = trajectory.torch_stepper

    def stepper(spec, tensors, images):
        twin, taken = original(spec, tensors, images), [0]

        def advance(steps):
            first, taken[0] = taken[0], taken[0] + len(steps.sizes)
            return twin.advance(change(steps, first))

        return twin._replace(advance=advance)

    return stepper


FAULTS = {
    "learning rate off by 1e-9": lambda steps, first: steps._replace(learning_rates=steps.learning_rates + 1e-9),
    "learning rate off by a millionth": lambda steps, first: steps._replace(
        learning_rates=steps.learning_rates * (1 + 1e-6)
    ),
    "one step skipped": lambda steps, first: steps.part(1, len(steps.sizes) - 1) if first == 0 else steps,
    "one image exchanged": lambda steps, first: steps._replace(indices=np.where(steps.indices == 3, 4, steps.indices)),
    "noise reused": lambda steps, first: steps._replace(numbers=np.full_like(steps.numbers, steps.numbers[0])),
    "noise of another seed": lambda steps, first: steps._replace(seed=steps.seed + 1),
    "KL weight off by a millionth": lambda steps, first: steps._replace(
        coefficients=steps.coefficients | {"kl": steps.coefficients["kl"] * (1 + 1e-6)}
    ),
}


@pytest.mark.quick
@pytest.mark.parametrize("fault", FAULTS)
def test_fault_in_one_twin_fails(fault, monkeypatch):
    spec, count = in_batches(CASES["dense silu"], 8)
    images = images_of(spec, count=count)
    assert worst(check_trajectory(spec, images, 0, QUICK, "float64")).passed
    monkeypatch.setattr(trajectory, "torch_stepper", wrong(FAULTS[fault]))
    checks = check_trajectory(spec, images, 0, QUICK, "float64")
    assert not checks[-1].passed
    assert checks[-1].place == f"step {QUICK}"


def test_fault_fails_in_float32(monkeypatch):
    """The control suffers the same fault, and must not excuse it."""
    spec, count = in_batches(CASES["dense silu"], 8)
    monkeypatch.setattr(trajectory, "torch_stepper", wrong(FAULTS["one step skipped"]))
    assert not worst(check_trajectory(spec, images_of(spec, count=count), 0, QUICK, "float32")).passed


def test_nan_in_one_twin_fails(monkeypatch):
    spec, count = in_batches(CASES["dense silu"], 8)
    change = lambda steps, first: steps._replace(learning_rates=steps.learning_rates * np.nan)  # noqa: E731
    monkeypatch.setattr(trajectory, "torch_stepper", wrong(change))
    for precision in ("float32", "float64"):
        checks = check_trajectory(spec, images_of(spec, count=count), 0, 2, precision)
        assert not any(check.passed for check in checks)


def test_float32_without_its_control_is_an_error():
    spec, count = in_batches(CASES["dense silu"], 8)
    divergence = diverge(with_precision(spec, "float32"), images_of(spec, count=count), 0, 2)._replace(control=None)
    with pytest.raises(ValueError, match="without its control"):
        judge(divergence)


def test_float64_runs_its_control_where_the_limit_is_left(monkeypatch):
    spec, count = in_batches(CASES["dense silu"], 8)
    spec, images = with_precision(spec, "float64"), images_of(spec, count=count)
    assert diverge(spec, images, 0, 5, "where needed").control is None
    monkeypatch.setattr(trajectory, "torch_stepper", wrong(FAULTS["one step skipped"]))
    divergence = diverge(spec, images, 0, 5, "where needed")
    assert divergence.control.max() < 1e-12  # it shares the fault, and does not excuse it
    assert not judge(divergence)[-1].passed


@pytest.mark.parametrize("precision", ["float32", "float64"])
def test_control_is_moved_by_one_ulp(precision):
    start = start_of(with_precision(CASES["conv silu"], precision), 3)
    moved = moved_by_one_ulp(start)
    assert start.keys() == moved.keys()
    for name, tensor in start.items():
        assert tensor.dtype == moved[name].dtype == precision
        zero = tensor == 0
        assert zero.all() == name.endswith(".bias")
        assert (moved[name] > tensor)[~zero].all()
        # no number lies between the two
        assert (np.nextafter(moved[name], -np.inf, dtype=precision) == tensor)[~zero].all()
        assert (moved[name][zero] == 0).all()


@pytest.mark.quick
def test_control_stays_on_the_kink(monkeypatch):
    """A black image puts units exactly on it; moved off by one ulp, the control would follow another gradient."""
    spec, count = in_batches(CASES["dense vae"], 8)
    spec, images = with_precision(spec, "float64"), images_of(spec, count=count)
    assert not spec.is_smooth
    assert not images[0].any()
    # 20 steps let a rounding grow ten times at most, and the epoch's 21 batches all but surely show the black image
    assert diverge(spec, images, 0, 20).control.max() <= 10 * 2.0**-53
    zeros_too = lambda tensors: {n: np.nextafter(t, np.inf, dtype=t.dtype) for n, t in tensors.items()}  # noqa: E731
    monkeypatch.setattr(trajectory, "moved_by_one_ulp", zeros_too)
    assert diverge(spec, images, 0, 20).control.max() >= 1e-6


@pytest.mark.quick
def test_limits():
    spec, count = in_batches(CASES["dense silu"], 8)
    images = images_of(spec, count=count)
    divergence = diverge(with_precision(spec, "float32"), images, 0, 5)
    expected = CONTROL_FACTOR * np.maximum(divergence.control, CONTROL_FLOOR)
    assert [check.limit for check in judge(divergence)] == pytest.approx(expected)
    still = judge(divergence._replace(control=np.zeros(3)))
    assert [check.limit for check in still] == [CONTROL_FACTOR * CONTROL_FLOOR] * 3
    double = judge(divergence._replace(spec=with_precision(spec, "float64"), control=None))
    assert [check.limit for check in double] == [FLOAT64_LIMIT] * 3
    moved = np.array([1e-13, np.nan, 1e-8])
    chaotic = judge(divergence._replace(spec=with_precision(spec, "float64"), control=moved))
    assert [check.limit for check in chaotic] == [FLOAT64_LIMIT, FLOAT64_LIMIT, CONTROL_FACTOR * 1e-8]
    decayed = judge(divergence._replace(spec=with_precision(CASES["conv gelu_erf"], "float32")))
    extra = np.array([check.limit for check in decayed]) - expected
    assert extra == pytest.approx(2.0**-25 * np.array([1, 2, 5]))


def test_trajectory_is_that_of_the_training_whatever_the_marks():
    spec, count = in_batches(CASES["dense silu"], 8)
    spec, images = with_precision(spec, "float64"), images_of(spec, count=count)
    start = start_of(spec, 0)
    for stepper in (trajectory.jax_stepper, trajectory.torch_stepper):
        often = trajectory.trajectory(stepper, spec, start, images, 0, (1, 7, 21, 30))
        once = trajectory.trajectory(stepper, spec, start, images, 0, (30,))
        np.testing.assert_array_equal(often[-1], once[-1])
        assert len({row.tobytes() for row in often}) == 4
        assert often.shape[1] == sum(t.size for n, t in start.items() if not is_state(n))


def test_marks():
    assert marks_up_to(1) == (1,)
    assert marks_up_to(10) == (1, 2, 5, 10)
    assert marks_up_to(1000) == (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)


def test_figure(tmp_path):
    spec = with_precision(CASES["dense silu"], "float32")
    steps = np.array(marks_up_to(1000))
    rows = {
        "smooth": trajectory.Divergence(spec, steps, 1e-8 * steps**0.5, 1e-7 * steps**0.1),
        "from equal": trajectory.Divergence(spec, steps, np.where(steps < 5, 0.0, 1e-16 * steps), None),
    }
    drawing = figure(rows)
    (axes,) = drawing.axes
    assert (axes.get_xscale(), axes.get_yscale()) == ("log", "log")
    lines = {line.get_label(): line for line in axes.get_lines()}
    assert list(lines) == ["smooth, twins", "smooth, one ulp", "from equal, twins"]
    np.testing.assert_array_equal(lines["smooth, twins"].get_ydata(), rows["smooth"].twins)
    np.testing.assert_array_equal(lines["from equal, twins"].get_xdata(), steps[2:])
    save_figure(tmp_path / "divergence.png", drawing)
    assert (tmp_path / "divergence.png").read_bytes().startswith(b"\x89PNG")
    assert figure({}).axes


@pytest.mark.quick
def test_command_takes_a_row_of_the_table(tmp_path, capsys):
    out = tmp_path / "curve.json"
    assert run_curve(Curve(case="dense silu", steps=2, json=out)) == 0
    found = json.loads(out.read_text(encoding="utf-8"))
    assert found["spec"]["backbone"] == spec_to_json(CASES["dense silu"])["backbone"]
    assert found["steps"] == [1, 2]
    assert "step 2: " in capsys.readouterr().out.replace("trajectory step", "step")
    with pytest.raises(SpecError, match='unknown case "dense silo"; did you mean "dense silu"'):
        run_curve(Curve(case="dense silo"))
