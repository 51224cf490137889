import sys

from ae_core.commands.shell import leave, run_program
from benchmarks import NAME
from benchmarks.commands import run_command

if __name__ == "__main__":
    leave(run_program(NAME, lambda: run_command(sys.argv[1:])))
