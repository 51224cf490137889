"""The derived bound and the symmetric rule on every case; the report names a planted fault."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import ae_jax.model.norm
import ae_torch
import ae_torch.model.norm
from ae_core.commands.shell import parse, run_program
from ae_core.errors import UserError
from ae_core.files.weights import is_state
from ae_core.spec import DenseBackbone, GaussianBottleneck, LayerNorm, Spec, Training, spec_to_json
from parity_tests import oracle, report
from parity_tests.cases import CASES, covering, images_of
from parity_tests.check import normwise
from parity_tests.faults import FAULTS
from parity_tests.faults.planting import Fault, planted
from parity_tests.gates import drift
from parity_tests.gates.drift import (
    check_distances,
    check_formulas,
    check_layers,
    check_network,
    checks_of,
    first_outlier,
    layer_drift,
    start_of,
)
from parity_tests.oracle import layers_of
from parity_tests.report import Report, run_report

QUICK = {"dense-digits", "foster-vae", "conv torch, batch norm, vae", "conv layer norm", "dense group norm"}
QUICK |= {"conv gelu_erf", "conv same, kernel 2, stride 3"}
PLANTED = Spec((6, 5, 1), DenseBackbone((24, 16, 12), "silu", norm=LayerNorm(1e-5)), GaussianBottleneck(3))


def rows(names):
    return [pytest.param(name, marks=pytest.mark.quick) if name in QUICK else name for name in names]


@pytest.mark.parametrize("name", rows(CASES))
def test_layers_are_within_the_bound(name, hold):
    spec = CASES[name]
    checks = check_layers(spec, images_of(spec), 1, "float32")
    # an output and an input gradient of every layer of either twin at least
    assert len(checks) >= 4 * len(layers_of(spec))
    hold(checks)


def parts_of(spec):
    return {(type(layer), getattr(layer, "name", "")) for layer in layers_of(spec).values()}


@pytest.mark.usefixtures("unoptimised")
@pytest.mark.parametrize("name", rows(covering(parts_of)))
def test_layers_are_within_the_bound_in_float64(name, hold):
    spec = CASES[name]
    hold(check_layers(spec, images_of(spec), 1, "float64"))


@pytest.mark.parametrize("name", rows(CASES))
def test_whole_nets_are_equally_far_from_the_oracle(name, hold):
    spec = CASES[name]
    hold(check_distances(spec, images_of(spec), 2))


@pytest.mark.usefixtures("unoptimised")
@pytest.mark.parametrize("name", rows(CASES))
def test_whole_nets_are_the_oracle(name, hold):
    spec = CASES[name]
    checks = check_formulas(spec, images_of(spec), 2)
    stateful = {check.place.split()[0] for check in checks if check.place.split()[1] == "state"}
    assert stateful == ({"jax", "torch"} if any(map(is_state, ae_torch.build(spec).shapes)) else set())
    hold(checks)


@pytest.mark.quick
def test_errors_that_are_expected_are_those_of_rounding():
    """A layer that gets exact numbers is off by one unit, and what all add up to grows with the unit roundoff."""
    spec = CASES["dense silu"]
    start = start_of(spec, images_of(spec), 2, "float64")
    right, first, u = oracle.run(*start), "encoder.blocks.0.linear", 2.0**-24

    def off(roundoff):
        return oracle.run(*start, errors=oracle.RandomErrors(roundoff, np.random.default_rng(0)))

    parameters = oracle.parameters_of(first, start.tensors, start.images, start.noise)
    x = start.images.reshape(len(start.images), -1).astype(np.float64)
    units = oracle.units_of(layers_of(spec)[first], parameters, x, np.zeros_like(right.taps[first]), u).output
    np.testing.assert_allclose(np.abs(off(u).taps[first] - right.taps[first]), units, rtol=1e-6)
    one, two = ({n: normwise(off(v).gradients[n], g) for n, g in right.gradients.items()} for v in (u, 2 * u))
    for name, distance in one.items():
        assert distance > 0
        assert abs(two[name] / distance - 2) < 1e-3, name  # what is not linear is u times smaller


@pytest.mark.quick
def test_what_is_wrong_in_both_twins_shows():
    """The two agree, and are as far from the oracle as each other."""
    spec = CASES["dense vae"]
    with planted(FAULTS["variance for standard deviation (both)"]):
        assert all(check.passed for check in check_distances(spec, images_of(spec), 0))
        failed = {check.place for check in check_formulas(spec, images_of(spec), 0) if not check.passed}
    assert failed >= {f"{twin} {place}" for twin in ("jax", "torch") for place in ("taps decoder", "terms loss")}
    assert not {place for place in failed if "encoder" in place and "taps" in place}


def wrong_eps(twin, eps, hits):
    """Return the fault of another eps in the third layer norm of a twin, the encoder's last; it counts its hits."""
    if twin == "torch":
        made = []
        original = ae_torch.model.norm.LayerNorm.__init__

        def faulty(self, features, right):
            made.append(self)
            third = len(made) % 6 == 3  # every model has six
            hits.extend([self] * third)
            original(self, features, eps if third else right)

        patch = (ae_torch.model.norm.LayerNorm, "__init__", faulty)
    else:
        original = ae_jax.model.norm.LayerNorm.__call__

        def faulty(self, x, mask=None):
            if self.path == ("encoder", "blocks_2", "norm"):
                hits.append(self)
                object.__setattr__(self, "eps", eps)  # Linen's modules are frozen
            return original(self, x, mask)

        patch = (ae_jax.model.norm.LayerNorm, "__call__", faulty)
    return Fault(twin, "", lambda: [patch])


@pytest.mark.quick
@pytest.mark.parametrize("twin", ["jax", "torch"])
def test_report_names_the_planted_layer(twin):
    """1e-6, a framework's default, for 1e-5: σ is off by 5e-6/σ², some ten units."""
    start = start_of(PLANTED, images_of(PLANTED), 0, "float32")
    assert first_outlier(layer_drift(start)) is None
    hits = []
    with planted(wrong_eps(twin, 1e-6, hits)):
        drifts = layer_drift(start)
    assert hits
    first = first_outlier(drifts)
    assert (first.layer, first.twin) == ("encoder.blocks.2.norm", twin)
    assert {(d.layer, d.twin) for d in drifts if not d.passed} == {("encoder.blocks.2.norm", twin)}
    failed = [check for check in checks_of(drifts, "float32") if not check.passed]
    assert all(check.place.startswith(f"{twin} encoder.blocks.2.norm ") for check in failed)


@pytest.mark.quick
@pytest.mark.parametrize("twin", ["jax", "torch"])
def test_network_notices_a_wrong_eps(twin):
    spec, images = PLANTED, images_of(PLANTED)
    assert all(check.passed for check in check_network(spec, images, 0))
    with planted(wrong_eps(twin, 1e-6, [])):
        failed = {check.place for check in check_network(spec, images, 0) if not check.passed}
    assert {f"{twin} forward", f"{twin} gradient", f"{twin} taps encoder.blocks.2.norm"} <= failed
    assert all(place.startswith(twin) for place in failed)


def damaged(name, change):
    """Return a capture of the PyTorch twin in which one array is changed."""

    def capture(*start):
        layers = drift.capture_torch(*start)
        layers["encoder.blocks.0.linear"] = change(layers["encoder.blocks.0.linear"])
        return layers

    return capture


DAMAGE = {
    "a NaN in the output": ("forward", lambda seen: seen._replace(y=np.where(seen.y == seen.y.max(), np.nan, seen.y))),
    "one number of the output": ("forward", lambda seen: seen._replace(y=seen.y + (seen.y == seen.y.max()) * 1e-4)),
    "a narrower output": ("forward", lambda seen: seen._replace(y=seen.y.astype(np.float16))),
    "a wider output": ("forward", lambda seen: seen._replace(y=seen.y.astype(np.float64))),
    "another shape": ("forward", lambda seen: seen._replace(y=seen.y[:1])),
    "a scaled input gradient": ("input gradient", lambda seen: seen._replace(dx=seen.dx * np.float32(1 + 1e-4))),
    "a weight gradient of zeros": (
        "weight gradient",
        lambda seen: seen._replace(gradients=seen.gradients | {"weight": 0 * seen.gradients["weight"]}),
    ),
}


@pytest.mark.quick
@pytest.mark.parametrize("name", DAMAGE)
def test_gate_can_fail(name, monkeypatch):
    part, change = DAMAGE[name]
    spec = CASES["dense silu"]
    # the undamaged twin stands in for both, so that nothing needs compiling
    twins = {"jax": drift.capture_torch, "torch": damaged(name, change)}
    monkeypatch.setattr(drift, "CAPTURE", twins)
    failed = {c.place for c in check_layers(spec, images_of(spec), 1, "float32") if not c.passed}
    assert failed == {f"torch encoder.blocks.0.linear {part}"}


@pytest.fixture
def spec_file(tmp_path):
    path = tmp_path / "spec.json"
    path.write_text(json.dumps(spec_to_json(replace(PLANTED, training=Training(batch_size=3)))), encoding="utf-8")
    return path


def command(*arguments):
    done = subprocess.run(
        [sys.executable, "-m", "parity_tests", *map(str, arguments)], capture_output=True, text=True, check=False
    )
    return done.returncode, done.stdout, done.stderr


@pytest.mark.quick
def test_command_passes_and_writes(spec_file, tmp_path):
    out = tmp_path / "out.json", tmp_path / "out.html"
    status, text, _ = command("--spec", spec_file, "--batch", 4, "--steps", 2, "--json", out[0], "--html", out[1])
    assert status == 0
    assert "PASS  The twins are the same model" in text
    assert "No layer stands out" in text
    assert max(map(len, text.split("No layer")[0].splitlines())) <= 80
    found = json.loads(out[0].read_text(encoding="utf-8"))
    assert found["verdict"] == "pass"
    assert {layer["layer"] for layer in found["layers"]} == set(layers_of(PLANTED))
    assert all(check["passed"] for check in found["checks"])
    page = out[1].read_text(encoding="utf-8")
    assert "encoder.blocks.2.norm forward" in page
    assert "http" not in page


@pytest.mark.quick
def test_command_names_the_planted_layer(spec_file, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(report, "choose_device", lambda device: None)  # the devices of a running test stay
    html = tmp_path / "out.html"
    with planted(wrong_eps("torch", 1e-6, [])):
        assert run_report(Report(spec=spec_file, batch=4, steps=1, html=html)) == 1
    text = " ".join(capsys.readouterr().out.split())
    assert "First layer that stands out: encoder.blocks.2.norm, PyTorch," in text
    assert "FAIL The twins are not the same model" in text
    assert "First layer that stands out: encoder.blocks.2.norm, PyTorch," in html.read_text(encoding="utf-8")


GATES = {
    "identity": {"forward", "loss", "gradient", "loss after 1 step", "training after 1 step"},
    "layers": {"float32 layer"},
    "network": {"float64 network", "float32 network"},
}


@pytest.mark.quick
@pytest.mark.usefixtures("unoptimised")
@pytest.mark.parametrize("gates", [("identity",), ("layers",), ("network",), ("network", "layers")])
def test_command_runs_the_gates_that_it_is_told_of(gates, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(report, "choose_device", lambda device: None)
    out = tmp_path / "out.json"
    assert run_report(Report(case="dense silu", gate=gates, steps=1, json=out)) == 0
    found = json.loads(out.read_text(encoding="utf-8"))
    assert {check["name"] for check in found["checks"]} == set().union(*(GATES[gate] for gate in gates))
    assert found["spec"] == spec_to_json(CASES["dense silu"])  # its own batches too
    assert bool(found["layers"]) == ("layers" in gates)
    said = " ".join(capsys.readouterr().out.split())
    assert f"checks passed (of {' and '.join(gate for gate in GATES if gate in gates)} alone)" in said
    assert ("No layer was looked at" in said) == ("layers" not in gates)


@pytest.mark.quick
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"case": "conv silo"}, 'unknown case "conv silo"; did you mean "conv silu"? valid: '),
        ({"case": "conv silu", "preset": "foster-ae"}, "given both --preset and --case; expected one of"),
        ({"preset": "foster-ea"}, 'did you mean "foster-ae"?'),
        ({"preset": "foster-ae", "spec": "some.json"}, "given both --preset and --spec"),
        ({"spec": "missing.json"}, "cannot be read as a spec"),
        ({"steps": 0}, "--steps: given 0; expected an integer of at least 1"),
        ({"batch": -1}, "--batch: given -1"),
        ({"data": "missing.npy"}, 'no data set, file or folder "missing.npy"'),
        ({"json": "out.txt"}, 'given the suffix ".txt"'),
        ({"html": "nowhere/out.html"}, "nowhere is not a folder"),
        ({"device": "gpu"}, "--device gpu: JAX and PyTorch see none here"),
    ],
)
def test_bad_input_is_one_line(options, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(report, "_jax_sees", lambda: False)
    monkeypatch.setattr(report.torch.cuda, "is_available", lambda: False)
    if "device" not in options:
        monkeypatch.setattr(report, "choose_device", lambda device: None)
    paths = {key: tmp_path / options[key] for key in ("spec", "json", "html") if key in options}
    assert run_program("parity", lambda: run_report(Report(**options | paths))) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.quick
def test_flags():
    given = ["--preset", "foster-vae", "--dtype", "float64", "--device", "gpu", "--steps", "3", "--batch", "5"]
    given += ["--seed", "7", "--data", "cans", "--json", "a.json", "--html", "a.html", "--force"]
    given += ["--gate", "identity", "--gate", "network"]
    right = Report(
        preset="foster-vae",
        gate=("identity", "network"),
        precision="float64",
        device="gpu",
        steps=3,
        batch=5,
        seed=7,
        data="cans",
        json=Path("a.json"),
        html=Path("a.html"),
        force=True,
    )
    assert parse(Report, "parity", given) == right
    assert parse(Report, "parity", ["--case", "conv torch, 7×5"]).case == "conv torch, 7×5"
    assert parse(Report, "parity", ["--precision", "float64"]).precision == "float64"


@pytest.mark.quick
@pytest.mark.parametrize(
    "given",
    [["--dtype", "float16"], ["--device", "tpu"], ["--steps", "many"], ["--gate", "layer"], ["--nonsense"]],
)
def test_bad_flags(given):
    with pytest.raises(UserError, match=given[0]):
        parse(Report, "parity", given)
