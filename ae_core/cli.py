"""The command line, the same for both twins."""

import importlib
import os
import sys

import tyro

from ae_core.engine import Engine
from ae_core.errors import UserError
from ae_core.extras import missing_extra


def main_jax() -> None:
    """Run the command line on the JAX twin."""
    sys.exit(main("jax"))


def main_torch() -> None:
    """Run the command line on the PyTorch twin."""
    sys.exit(main("torch"))


def main(twin: str, argv: list[str] | None = None) -> int:
    """Run one command and return its exit status.

    0: done; 1: a training diverged; 2: the user's input is wrong, said in one line; 130: Ctrl-C.
    """
    argv = sys.argv[1:] if argv is None else argv
    program = f"ae-{twin}"
    missing = missing_extra(twin)
    if missing:
        return _refuse(program, missing)
    from ae_core.commands import Command

    try:
        command = tyro.cli(
            Command,
            prog=program,
            description=f"One autoencoder, written twice; this is the {twin} twin.",
            args=argv,
            config=(tyro.conf.FlagCreatePairsOff,),
        )
        return command.run(load_engine(twin))
    except UserError as error:
        return _refuse(program, str(error))
    except KeyboardInterrupt:
        print(f"{program}: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # whoever read the output has gone; Python would complain once more at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


def load_engine(twin: str) -> Engine:
    """Import a twin and return its engine."""
    engine: Engine = importlib.import_module(f"ae_{twin}.engine").ENGINE
    return engine


def _refuse(program: str, message: str) -> int:
    print(f"{program}: {' '.join(message.split())}", file=sys.stderr)
    return 2
