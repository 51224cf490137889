from collections.abc import Callable, Iterator

import pytest

from parity_tests.check import Check, worst
from parity_tests.twins import one_thread

_SEEN: dict[str, list[Check]] = {}


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    with one_thread():
        yield


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
