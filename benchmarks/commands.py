"""The commands of ``python -m benchmarks`` beside the main job, which it is without any."""

from ae_core.commands.cli import require_extras
from ae_core.commands.shell import parse, take_plugins
from ae_core.spec.plugins import load_plugins
from benchmarks import NAME

COMMANDS = ("race", "report", "compare")
HELP = (
    "Check in float64 that the twins are the same model, train both from the same weights on the same batches, and "
    "compare. Other commands, each with a --help of its own: race, report, compare."
)


def run_command(argv: list[str]) -> int:
    """Run what the arguments ask for and return the exit status.

    Raises:
        UserError: they ask for something that cannot be.
    """
    argv = take_plugins(argv)
    name = argv[0] if argv and argv[0] in COMMANDS else None
    if name == "race":
        _require_twins()
        from benchmarks.race.run import Race, run_race

        return run_race(parse(Race, f"{NAME} race", argv[1:]))
    if name == "report":
        from benchmarks.report.report import Report, run_report

        return run_report(parse(Report, f"{NAME} report", argv[1:]))
    if name == "compare":
        from benchmarks.report.compare import Compare, run_compare

        return run_compare(parse(Compare, f"{NAME} compare", argv[1:]))
    _require_twins()
    from benchmarks.main_job.job import MainJob, run_main_job

    return run_main_job(parse(MainJob, NAME, argv, HELP))


def _require_twins() -> None:
    """Refuse to go on without both frameworks, and load both halves of each plugin."""
    twins = ("jax", "torch")
    require_extras(*twins)
    for twin in twins:
        load_plugins((), twin)
