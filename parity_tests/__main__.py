import sys

from ae_core.commands.cli import require_extras
from ae_core.commands.shell import leave, parse, run_program, take_plugins
from ae_core.spec.plugins import load_plugins

NAME = "python -m parity_tests"
TWINS = ("jax", "torch")


def work() -> int:
    require_extras(*TWINS)
    arguments = take_plugins(sys.argv[1:])
    for twin in TWINS:
        load_plugins((), twin)
    job, options = arguments[:1], arguments[1:]
    if job == ["mutation"]:
        require_extras("sklearn")
        from parity_tests.faults.mutation import Mutation, run_mutation

        return run_mutation(parse(Mutation, f"{NAME} mutation", options))
    if job == ["trajectory"]:
        from parity_tests.curve import Curve, run_curve

        return run_curve(parse(Curve, f"{NAME} trajectory", options))
    if job == ["accelerator"]:
        from parity_tests.gates.accelerator import Accelerator, run_accelerator

        return run_accelerator(parse(Accelerator, f"{NAME} accelerator", options))
    if job == ["pair"]:
        from parity_tests.pair.command import PairCommand, run_pair_command

        return run_pair_command(parse(PairCommand, f"{NAME} pair", options))
    from parity_tests.report import Report, run_report

    description = "Other jobs, each with a --help of its own: mutation, trajectory, accelerator, pair."
    return run_report(parse(Report, NAME, arguments, f"{Report.__doc__}\n\n{description}"))


if __name__ == "__main__":
    leave(run_program(NAME, work))
