import sys

from ae_core.program import leave, run_program
from benchmarks.commands import NAME, run_command

if __name__ == "__main__":
    leave(run_program(NAME, lambda: run_command(sys.argv[1:])))
