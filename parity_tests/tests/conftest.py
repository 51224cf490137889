from collections.abc import Callable, Iterator

import jax
import pytest

from parity_tests.check import Check, worst
from parity_tests.twins import one_thread

_SEEN: dict[str, list[Check]] = {}


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    with one_thread():
        yield


@pytest.fixture
def unoptimised() -> Iterator[None]:
    """Let JAX spare LLVM's optimisations: most of what a small program takes, and no part of what float64 shows.

    XLA's own passes, which merge and reorder operations, stay. Float32's rounding, and the trajectories, are held to
    their limits as programs are compiled for use.
    """
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)


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
