from collections.abc import Callable, Iterator

import jax
import pytest

from ae_jax.execution import compiler
from parity_tests.check import Check, worst
from parity_tests.faults.planting import forget
from parity_tests.twins import one_thread

_SEEN: dict[str, list[Check]] = {}


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    with one_thread():
        yield


@pytest.fixture
def unoptimised() -> None:
    """Let JAX spare optimisations of machine code: most of what a small program takes, and nothing that float64 shows.

    XLA's own passes, which merge and reorder operations, stay. Float32's rounding, and the trajectories, are held to
    their limits as programs are compiled for use.
    """


QUICKLY = {"xla_cpu_use_fusion_emitters": False, "xla_cpu_parallel_codegen_split_count": 1}
"""Options with which XLA takes a third of the time for a small program: an older way to machine code, and one piece of
it, where it cuts some for processors that have nothing else to do."""


@pytest.fixture(autouse=True)
def _as_it_is_compiled(request: pytest.FixtureRequest) -> None:
    """Compile as the test wants it, and let go of programs that were compiled in the other way."""
    wanted = "unoptimised" in request.fixturenames
    if wanted == (QUICKLY.keys() <= compiler._ON_A_CPU.keys()):
        return
    jax.config.update("jax_disable_most_optimizations", wanted)
    for name, value in QUICKLY.items():
        if wanted:
            compiler._ON_A_CPU[name] = value
        else:
            del compiler._ON_A_CPU[name]
    forget()


@pytest.fixture
def hold(request: pytest.FixtureRequest) -> Callable[[list[Check]], None]:
    """Assert that all checks pass, and remember them for the line at the end of the run."""

    def assert_all(checks: list[Check]) -> None:
        assert checks, "nothing was compared"
        for check in checks:
            placed = check._replace(place=f"{request.node.name}: {check.place}")
            _SEEN.setdefault(f"{check.limit:.0e}", []).append(placed)
        failed = [str(check) for check in checks if not check.passed]
        assert not failed, "\n".join(failed)

    return assert_all


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if _SEEN:
        terminalreporter.section("parity")
    for limit, checks in _SEEN.items():
        terminalreporter.write_line(f"limit {limit}: {len(checks):,} comparisons, worst: {worst(checks)}")
