"""The accelerator gate, run on the CPU: it can fail, and precision is lifted and put back."""

import json
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
import torch

import ae_jax
import ae_jax.model.autoencoder
import ae_torch.engine
import ae_torch.model.layers
from ae_core.commands.shell import parse, run_program
from ae_core.errors import UserError
from parity_tests import report
from parity_tests.cases import CASES, images_of
from parity_tests.faults import FAULTS
from parity_tests.faults.planting import forget, planted
from parity_tests.gates import accelerator
from parity_tests.gates.accelerator import (
    Accelerator,
    check_pinned,
    default_precision,
    products,
    run_accelerator,
)
from parity_tests.twins import compiled_pass

pytestmark = pytest.mark.quick
STEPS = 20
NETWORK = {"float32 layer", "float64 network", "float32 network"}
"""Names of the checks of every case."""


@pytest.mark.parametrize(
    ("case", "gates"),
    [("dense-digits", NETWORK), ("dense silu", NETWORK | {"trajectory"})],
)
def test_every_gate_that_applies_passes(case, gates, hold):
    checks = check_pinned(case, 0, STEPS)
    assert {check.name for check in checks} == gates
    assert all(check.place.startswith(f"{case}: ") for check in checks)
    hold([check._replace(limit=1.0, worst=check.worst / check.limit) for check in checks])


@pytest.mark.parametrize("twin", ["jax", "torch"])
def test_each_gate_can_fail(twin):
    with planted(FAULTS[f"sum over pixels for mean ({twin})"]):
        failed = {check.name for check in check_pinned("dense-digits", 0, STEPS) if not check.passed}
    assert failed == NETWORK
    with planted(FAULTS[f"KL without its half ({twin})"]):
        failed = {check.name for check in check_pinned("dense silu", 0, STEPS) if not check.passed}
    assert failed == NETWORK | {"trajectory"}


def products_in(function, *arguments):
    """How many products a JAX function has, and how many of them ask for full precision."""
    text = str(jax.make_jaxpr(function)(*arguments))
    return text.count("dot_general[") + text.count("conv_general_dilated["), text.count("precision=(Precision.HIGHEST")


@pytest.fixture
def forgotten():
    """What was compiled, and found out of the compiler, for another platform than the test's is let go, and again."""
    forget()
    yield
    forget()


def test_precision_of_the_jax_twin_is_lifted_and_put_back(forgotten, monkeypatch):
    """Of all its products, forward and backward, in the model and in the passes that the gates look at."""
    # convolutions are then JAX's own; those for a CPU, where there is no other precision, never run elsewhere
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    spec = CASES["conv same"]
    model = ae_jax.build(spec)
    variables, x = model.init(0), images_of(spec)

    def counts():
        forget()
        parts = [(compiled_pass(spec), variables, x, {}), (model.encode, variables, x)]
        return np.array([products_in(*part) for part in parts])

    pinned = counts()
    assert (pinned[:, 0] > 0).all()
    assert (pinned[:, 0] == pinned[:, 1]).all()
    with default_precision():
        lifted = counts()
    assert (lifted[:, 0] == pinned[:, 0]).all()
    assert (lifted[:, 1] == 0).all()
    assert (counts() == pinned).all()


def test_precision_of_the_torch_twin_is_lifted_and_put_back(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)  # as if there were one: PyTorch keeps the settings
    backends = accelerator._BACKENDS
    before = {name: backend.fp32_precision for name, backend in backends.items()}
    try:
        pinned = products()
        assert pinned == {"JAX": "highest", "PyTorch convolutions": "ieee", "PyTorch matrix products": "ieee"}
        with default_precision():
            assert products() == {
                "JAX": "default",
                "PyTorch convolutions": "tf32",
                "PyTorch matrix products": "none",
            }
            assert ae_torch.engine.device_of_training().type == "cuda"
        assert pinned == {"JAX": "highest"} | {name: backend.fp32_precision for name, backend in backends.items()}
        with pytest.raises(KeyboardInterrupt), default_precision():
            raise KeyboardInterrupt
        assert products() == pinned
    finally:
        for name, backend in backends.items():
            backend.fp32_precision = before[name]


def test_defaults_are_what_pytorch_starts_with():
    code = "from parity_tests.gates.accelerator import _BACKENDS, _DEFAULTS\n"
    code += "assert {name: backend.fp32_precision for name, backend in _BACKENDS.items()} == _DEFAULTS"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.fixture
def tensor_cores(monkeypatch):
    """Let PyTorch's fully connected layers cut their input to the 11 bits of TF32 where convolutions may."""
    original = ae_torch.model.layers.Linear.forward

    def forward(self, x):
        if ae_jax.model.autoencoder.PRODUCT_PRECISION is None and torch.backends.cudnn.conv.fp32_precision == "tf32":
            cut = x.detach().view(torch.int32).bitwise_and(-(2**13)).view(torch.float32)
            x = x + (cut - x).detach()
        return original(self, x)

    monkeypatch.setattr(ae_torch.model.layers.Linear, "forward", forward)


@pytest.fixture
def few(monkeypatch):
    """A preset and a smooth net for all cases, on the device of the running test."""
    monkeypatch.setattr(accelerator, "CASES", {name: CASES[name] for name in ("dense-digits", "dense linear")})
    monkeypatch.setattr(accelerator, "choose_device", lambda device: None)


@pytest.mark.usefixtures("tensor_cores", "few")
def test_default_precision_is_reported_and_not_judged(tmp_path, capsys):
    out = tmp_path / "out.json"
    assert run_accelerator(Accelerator("cpu", steps=5, json=out)) == 0
    text = capsys.readouterr().out
    assert "PASS  pinned: The twins are the same model" in text
    assert "dense-digits at default precision, not judged: JAX up to" in text
    assert "this says nothing about an accelerator" in text
    found = json.loads(out.read_text(encoding="utf-8"))
    assert found["verdict"] == "pass"
    assert found["products"]["default"]["JAX"] == "default"
    assert {check["place"].partition(":")[0] for check in found["checks"]} == {"dense-digits", "dense linear"}
    assert all(check["passed"] for check in found["checks"])
    linear = [row for row in found["default"] if row["layer"] == "encoder.blocks.0.linear" and row["part"] == "forward"]
    tops = {row["twin"]: row["max"] for row in linear}
    assert tops["jax"] <= 2 < 100 < tops["torch"]
    assert {row["case"] for row in found["default"]} == {"dense-digits"}
    assert found["environment"].keys() >= {"date", "processor", "jax", "torch"}


@pytest.mark.usefixtures("few")
def test_failure_is_status_1(capsys):
    with planted(FAULTS["sum over pixels for mean (torch)"]):
        assert run_accelerator(Accelerator("cpu", steps=1)) == 1
    assert "FAIL  pinned: The twins are not the same model" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "--device gpu: JAX and PyTorch see none here; expected cpu"),
        ({"steps": 0}, "--steps: given 0; expected an integer of at least 1"),
        ({"json": Path("out.txt")}, 'given the suffix ".txt"'),
    ],
)
def test_bad_input_is_one_line(options, message, monkeypatch, capsys):
    monkeypatch.setattr(report, "_jax_sees", lambda: False)
    monkeypatch.setattr(report.torch.cuda, "is_available", lambda: False)
    assert run_program("parity", lambda: run_accelerator(Accelerator(**options))) == 2
    printed = capsys.readouterr()
    assert message in printed.err
    assert printed.err.count("\n") == 1
    assert printed.out == ""


def test_flags():
    given = ["--device", "cpu", "--steps", "3", "--seed", "7", "--json", "a.json", "--force"]
    assert parse(Accelerator, "parity", given) == Accelerator("cpu", 3, 7, Path("a.json"), True)
    assert parse(Accelerator, "parity", []).device == "gpu"
    with pytest.raises(UserError, match="--device"):
        parse(Accelerator, "parity", ["--device", "tpu"])
