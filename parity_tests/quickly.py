"""How float64 programs are compiled where it counts what they give, and not how fast.

Machine code is spared its optimisations: most of what a small program takes to compile, and nothing that float64 shows.
XLA's own passes, which merge and reorder operations, stay. What float32 rounds off is never measured on such a program.
"""

from functools import lru_cache

import jax

from ae_jax.execution.compiler import known

OPTIONS: dict[str, bool | int] = {
    "xla_backend_optimization_level": 0,
    "xla_llvm_disable_expensive_passes": True,
    # an older way to machine code, which takes half the time of the usual one
    "xla_cpu_use_fusion_emitters": False,
    # one piece of it, where XLA cuts some for cores that have nothing else to do
    "xla_cpu_parallel_codegen_split_count": 1,
}
"""Of `jax.jit`, on a CPU."""


@lru_cache(maxsize=1)
def options() -> dict[str, bool | int]:
    """Return those that the installed XLA knows, on a CPU; elsewhere none."""
    if jax.default_backend() != "cpu":
        return {}
    return {name: value for name, value in OPTIONS.items() if known(name, value)}
