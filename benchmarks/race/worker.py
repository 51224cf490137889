"""A process that races one variant of one side: requests come in, answers go out, as lines of JSON.

Whatever a library prints goes to standard error, of which the parent shows the last line if the process dies.
"""

import ctypes
import json
import os
import signal
import sys
import time
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from ae_core.errors import UserError
from ae_core.spec import spec_from_json
from ae_core.spec.plugins import load_plugins
from ae_core.system.allocator import keep_freed_memory
from benchmarks.race.peak import measure
from benchmarks.race.profiles import profile
from benchmarks.race.reference import reference
from benchmarks.race.session import Session
from benchmarks.race.sides import SIDES
from benchmarks.race.sides.engine import train_to_quality
from benchmarks.race.workloads import PairWorkload, Workload, workload_from_json

_DIE_WITH_PARENT = 1
_JAX_STAGES = {
    "/jax/core/compile/jaxpr_trace_duration": "trace",
    "/jax/core/compile/jaxpr_to_mlir_module_duration": "lower",
    "/jax/core/compile/backend_compile_duration": "compile",
}


class Worker(Session):
    """A session that also imports frameworks, and says how long that took."""

    def do_open(self, side: str, workload: dict[str, Any], variant: str, values: str) -> dict[str, Any]:
        """Import the side and open it."""
        imported = _import(side)
        stages = _jax_stages() if SIDES[side].framework == "jax" else {}
        self.framework = SIDES[side].framework
        answer = super().do_open(side, workload, variant, values)
        return answer | {"stages": {"import": imported, **stages, **answer["stages"]}}

    def do_memory(self, steps: int) -> dict[str, Any]:
        """Return the most memory that the process has ever had, and of a compiled step the bytes of its temporaries."""
        answer = super().do_memory(steps)
        count = getattr(self.runner, "temporary_bytes", None)
        return answer | ({"temporary_bytes": count()} if count else {})

    def do_profile(self, steps: int) -> dict[str, Any]:
        """Return on what steps are spent, in shares by group."""
        return {"shares": profile(self.framework, lambda: self.runner.take(steps))}

    def do_quality(self, side: str, workload: dict[str, Any], variant: str, seed: int) -> dict[str, Any]:
        """Train to the workload's held-out loss."""
        imported = _import(side)
        module = import_module(SIDES[side].module)
        module.prepare()
        chosen = workload_from_json(workload)
        assert isinstance(chosen, Workload)
        found = train_to_quality(chosen, module.trainer_of(chosen, variant), module.shapes(chosen), seed)
        return {"import": imported, **found._asdict()}

    def do_reference(self, workload: dict[str, Any], values: str) -> dict[str, Any]:
        """Write the float64 reference and its controls to ``values`` (.npz): of the JAX side, or of each side."""
        chosen = workload_from_json(workload)
        if isinstance(chosen, PairWorkload):
            from benchmarks.race.pair import pair_reference

            runs, size = pair_reference(chosen)
        else:
            import_module(SIDES["jax"].module).prepare()
            one, size = reference(chosen)
            runs = {"jax": one}
        np.savez(values, allow_pickle=False, **runs)
        return {"rounding": size}

    def do_shapes(self, side: str, spec: dict[str, Any]) -> dict[str, Any]:
        """Return names and shapes of the tensors that one of our twins makes of a spec."""
        _import(side)
        return {"shapes": import_module(SIDES[side].module).ENGINE.shapes(spec_from_json(spec))}

    def do_pair(self, file: str) -> dict[str, Any]:
        """Say whether the two sides that a file brings are the same model."""
        from benchmarks.race.pair import compared

        return compared(Path(file))

    def do_peak(self) -> dict[str, Any]:
        """Measure the machine."""
        return measure()

    def do_environment(self, side: str) -> dict[str, Any]:
        """Return the versions, device and threads of one of our twins."""
        module = import_module(SIDES[side].module)
        module.prepare()
        return dict(module.ENGINE.environment())


def _import(side: str) -> float:
    began = time.perf_counter()
    module = import_module(SIDES[side].module)
    if hasattr(module, "prepare"):
        module.prepare()
    load_plugins((), SIDES[side].framework)
    return time.perf_counter() - began


def _jax_stages() -> dict[str, float]:
    """Return seconds by stage, which JAX goes on adding to."""
    import jax.monitoring

    found = dict.fromkeys(_JAX_STAGES.values(), 0.0)

    def note(event: str, duration_secs: float, **details: str | int) -> None:
        if event in _JAX_STAGES:
            found[_JAX_STAGES[event]] += duration_secs

    jax.monitoring.register_event_duration_secs_listener(note)
    return found


def main() -> None:
    """Answer requests until there are no more."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_DIE_WITH_PARENT, signal.SIGKILL)
    keep_freed_memory()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent answers Ctrl-C
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    load_plugins((), None)  # those that the parent was given: it hands them on in the environment
    worker = Worker()
    for line in sys.stdin:
        try:
            answer = worker.handle(json.loads(line))
        except UserError as error:
            answer = {"error": str(error), "refused": True}
        except Exception as error:
            answer = {"error": f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"}
        print(json.dumps(answer), file=answers)
    os._exit(0)  # a framework's threads need no farewell


if __name__ == "__main__":
    main()
