"""The accelerator gate: with precision pinned it is held to what a CPU is held to; its default precision is shown.

Pinned, the float32 gates apply: every layer within the derived bound, whole nets by the symmetric factor, trajectories
of smooth nets beside their control. Left to themselves, the frameworks round the factors of float32 products to the 11
bits of TF32 where the hardware has it, JAX in matrix products and convolutions, PyTorch in convolutions alone. How far
that takes each layer is reported in the same units, and not judged.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal
from unittest.mock import patch

import torch
from rich.console import Console
from rich.progress import track

import ae_jax.model.autoencoder
import ae_torch.engine
from ae_core.commands.cli import load_engine
from ae_core.errors import UserError
from ae_core.files.output import check_file, write_json
from ae_core.spec.presets import PRESETS
from ae_core.system.environment import environment
from parity_tests.cases import CASES, SMOOTH, images_of
from parity_tests.check import Check
from parity_tests.gates.drift import LayerDrift, check_layers, check_network, layer_drift, start_of
from parity_tests.gates.trajectory import check_trajectory, in_batches
from parity_tests.report import TWINS, choose_device, gate_table, layer_table, verdict

SCHEMA = "twin-autoencoders/accelerator/1"

_BACKENDS: dict[str, Any] = {
    "PyTorch convolutions": torch.backends.cudnn.conv,  # type: ignore[attr-defined]  # PyTorch's stubs lack it
    "PyTorch matrix products": torch.backends.cuda.matmul,
}
_DEFAULTS = {"PyTorch convolutions": "tf32", "PyTorch matrix products": "none"}
"""What PyTorch starts with; none is full precision."""


@contextmanager
def default_precision() -> Iterator[None]:
    """Let both frameworks multiply float32 numbers as they do unless told otherwise, for a while."""
    before = {name: backend.fp32_precision for name, backend in _BACKENDS.items()}

    def device() -> torch.device:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")  # the engine's own, which pins, without it

    try:
        for name, backend in _BACKENDS.items():
            backend.fp32_precision = _DEFAULTS[name]
        with (
            patch.object(ae_jax.model.autoencoder, "PRODUCT_PRECISION", None),
            patch.object(ae_torch.engine, "device_of_training", device),
        ):
            yield
    finally:
        for name, backend in _BACKENDS.items():
            backend.fp32_precision = before[name]


def products() -> dict[str, str]:
    """Return how float32 products are computed now."""
    ae_torch.engine.device_of_training()  # pins what it finds
    torch_state = {name: str(backend.fp32_precision) for name, backend in _BACKENDS.items()}
    return {"JAX": ae_jax.model.autoencoder.PRODUCT_PRECISION or "default", **torch_state}


def check_pinned(case: str, seed: int = 0, steps: int = 1000) -> list[Check]:
    """Hold a case to the float32 gates, where the twins run: layers, the whole net, a smooth net's trajectory."""
    spec = CASES[case]
    checks = check_layers(spec, images_of(spec), seed, "float32")
    checks += check_network(spec, images_of(spec), seed)
    if case in SMOOTH:
        spec, count = in_batches(spec, 8)
        checks += check_trajectory(spec, images_of(spec, count=count), seed, steps, "float32")
    return [check._replace(place=f"{case}: {check.place}") for check in checks]


def default_drift(case: str, seed: int = 0) -> list[LayerDrift]:
    """Return how far each layer of both twins is from the oracle at default precision."""
    spec = CASES[case]
    with default_precision():
        return layer_drift(start_of(spec, images_of(spec), seed, "float32"))


@dataclass(frozen=True)
class Accelerator:
    """Hold both twins to the float32 gates on an accelerator, precision pinned, then show its default precision.

    The exit status is 0 where every check passed, 1 where one failed; what default precision does is not judged.
    """

    device: Literal["gpu", "cpu"] = "gpu"
    """Where the twins run; a CPU shows that the command works, and nothing about an accelerator."""
    steps: int = 1000
    """Steps of each trajectory."""
    seed: int = 0
    """Of weights, batch order and noise."""
    json: Path | None = None
    """JSON file for everything that was measured."""
    force: bool = False
    """Overwrite this file."""


def run_accelerator(options: Accelerator) -> int:
    """Measure, show, and return the exit status.

    Raises:
        UserError: there is no such device, or the JSON file cannot be written; nothing has been measured.
    """
    if options.steps < 1:
        raise UserError(f"--steps: given {options.steps}; expected an integer of at least 1")
    if options.json is not None:
        check_file(options.json, (".json",), options.force)
    choose_device(options.device)
    console = Console(stderr=True, highlight=False, markup=False)
    pinned = products()
    names = track(CASES, "precision pinned", console=console, transient=True)
    checks = [check for name in names for check in check_pinned(name, options.seed, options.steps)]
    names = track([name for name in CASES if name in PRESETS], "default precision", console=console, transient=True)
    drifts = {name: default_drift(name, options.seed) for name in names}
    with default_precision():
        default = products()
    good = all(check.passed for check in checks)
    if options.json is not None:
        report = {
            "schema": SCHEMA,
            "environment": environment() | {twin: load_engine(twin).environment() for twin in TWINS},
            "options": {"device": options.device, "steps": options.steps, "seed": options.seed},
            "products": {"pinned": pinned, "default": default},
            "checks": [{**check._asdict(), "passed": check.passed} for check in checks],
            "default": [{"case": name, **drift._asdict()} for name, own in drifts.items() for drift in own],
            "verdict": "pass" if good else "fail",
        }
        write_json(options.json, report)
    shown = Console(highlight=False, markup=False)
    shown.print(gate_table(checks))
    for name, own in drifts.items():
        shown.print(f"{name} at default precision, not judged: {summary(own)}")
        shown.print(layer_table(own))
    shown.print(f"{'PASS' if good else 'FAIL'}  pinned: {verdict(checks)}")
    if options.device == "cpu":
        shown.print("Measured on the CPU: this says nothing about an accelerator")
    if options.json is not None:
        print(f"written: {options.json}")
    return 0 if good else 1


def summary(drifts: list[LayerDrift]) -> str:
    """Return the furthest layer of each twin, in units.

    >>> summary([LayerDrift("loss", twin, "forward", 0.5, 1.5, 1.5, 2.0) for twin in TWINS])
    'JAX up to 1.5 units (loss), PyTorch up to 1.5 units (loss)'
    """
    tops = {twin: max((d for d in drifts if d.twin == twin), key=lambda d: d.max) for twin in TWINS}
    return ", ".join(f"{TWINS[twin]} up to {top.max:.2g} units ({top.layer})" for twin, top in tops.items())
