from ae_core.cli import require_extras
from ae_core.program import leave, parse, run_program

NAME = "python -m benchmarks"


def work() -> int:
    require_extras("jax", "torch")
    from benchmarks.main_job import MainJob, run_main_job

    return run_main_job(parse(MainJob, NAME))


if __name__ == "__main__":
    leave(run_program(NAME, work))
