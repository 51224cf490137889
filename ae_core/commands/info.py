"""The command that shows a spec and its parameters."""

import json
import math
from dataclasses import dataclass
from pathlib import Path

from ae_core.errors import SpecError
from ae_core.files.weights import check_tensors, checksum, is_state, load_weights
from ae_core.spec import load_spec, spec_to_json
from ae_core.spec.presets import preset
from ae_core.training.engine import Engine
from ae_core.training.initial import check_size


@dataclass(frozen=True)
class Info:
    """Show a spec and its parameters, and of a weights file the checksums."""

    weights: Path | None = None
    """Weights file."""
    preset: str | None = None
    """Name of a preset."""
    spec: Path | None = None
    """JSON file with a spec."""

    def run(self, engine: Engine) -> int:
        """Print spec and table."""
        if [self.weights, self.preset, self.spec].count(None) != 2:
            raise SpecError("info: expected exactly one of --weights, --preset and --spec")
        sums: dict[str, str] = {}
        if self.weights is not None:
            spec, tensors = load_weights(self.weights)
            check_tensors(tensors, engine.shapes(spec), str(self.weights))
            sums = {name: checksum(tensor) for name, tensor in tensors.items()}
        else:
            spec = load_spec(self.spec) if self.spec is not None else preset(self.preset or "")
        shapes = check_size(engine.shapes(spec))  # refuses what cannot be built before anything is printed
        print(json.dumps(spec_to_json(spec), indent=2))
        width = max(len(name) for name in shapes)
        print(f"\n{'tensor':{width}}  {'shape':16}  {'numbers':>9}  {'sha256' if sums else ''}".rstrip())
        for name, shape in sorted(shapes.items()):
            size = math.prod(shape)
            print(f"{name:{width}}  {shape!s:16}  {size:>9,}  {sums.get(name, '')}".rstrip())
        trained = sum(math.prod(s) for name, s in shapes.items() if not is_state(name))
        print(f"\n{trained:,} parameters")
        return 0
