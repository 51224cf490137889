"""The trajectory gate as a command: how far the twins drift apart on one spec, as a table and a picture."""

from dataclasses import dataclass, replace
from pathlib import Path

from rich.console import Console

from ae_core.data import load
from ae_core.errors import SpecError
from ae_core.figures.charts import save_figure
from ae_core.files.output import check_file, write_json
from ae_core.spec import Precision, spec_to_json
from ae_core.training.loop import check_batches
from parity_tests.cases import chosen_spec, images_of
from parity_tests.gates.identity import check_names, with_precision
from parity_tests.gates.trajectory import diverge, figure, judge

SCHEMA = "twin-autoencoders/trajectory/1"


@dataclass(frozen=True)
class Curve:
    """Train both twins for many steps and show how far apart they drift, beside a control moved by one ulp."""

    preset: str | None = None
    """Name of a preset; foster-ae where neither preset, spec nor case is given."""
    spec: Path | None = None
    """JSON file with a spec."""
    case: str | None = None
    """Name of a row of the table in parity_tests/cases.py."""
    precision: Precision = "float64"
    """In which both are trained."""
    steps: int = 1000
    """Steps of training."""
    batch: int = 8
    """Images a step."""
    seed: int = 0
    """Of weights, images, batch order and noise."""
    data: str | None = None
    """Images: cans, garments, digits, mnist, fashion-mnist, or a path; random ones where absent."""
    json: Path | None = None
    """JSON file for the curve."""
    figure: Path | None = None
    """PNG file for the picture."""
    force: bool = False
    """Overwrite these files."""


def run_curve(options: Curve) -> int:
    """Train, show, and return the exit status: 0 where the gate holds, or does not apply, else 1.

    Raises:
        UserError: the spec, the data or an output file cannot be used; nothing has been trained.
    """
    spec = chosen_spec(options.preset, options.spec, options.case)
    if options.steps < 1:
        raise SpecError(f"--steps: given {options.steps}; expected at least 1")
    for path, suffix in ((options.json, ".json"), (options.figure, ".png")):
        if path is not None:
            check_file(path, (suffix,), options.force)
    spec = with_precision(replace(spec, training=replace(spec.training, batch_size=options.batch)), options.precision)
    images = images_of(spec, options.seed) if options.data is None else load(options.data, spec.input_shape).images
    check_batches(spec, len(images))
    check_names(spec)
    console = Console(stderr=True, highlight=False, markup=False)
    console.print(f"{options.steps} steps in {options.precision}: JAX, PyTorch, and PyTorch moved by one ulp …")
    divergence = diverge(spec, images, options.seed, options.steps)
    control = divergence.control if divergence.control is not None else divergence.twins * 0
    print(f"{'steps':>8}  {'JAX against PyTorch':>20}  {'control':>10}")
    for step, twins, moved in zip(divergence.steps, divergence.twins, control, strict=True):
        print(f"{step:>8,}  {twins:>20.1e}  {moved:>10.1e}")
    checks = judge(divergence)
    for check in checks:
        print(check)
    if not checks:
        print("not judged: in float32 a net with kinks is chaotic, as its control shows")
    if options.json is not None:
        curve = {"steps": divergence.steps.tolist(), "twins": divergence.twins.tolist(), "control": control.tolist()}
        gate = [check._asdict() | {"passed": check.passed} for check in checks]
        write_json(options.json, {"schema": SCHEMA, "spec": spec_to_json(spec), **curve, "checks": gate})
        print(f"curve: {options.json}")
    if options.figure is not None:
        save_figure(options.figure, figure({options.case or options.preset or "spec": divergence}))
        print(f"picture: {options.figure}")
    return 0 if all(check.passed for check in checks) else 1
