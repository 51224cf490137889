"""The command line, the same for both twins."""

import importlib

from ae_core.commands.shell import leave, parse, run_program
from ae_core.errors import UserError
from ae_core.spec import families, kinds
from ae_core.spec.plugins import load_plugins
from ae_core.system.allocator import keep_freed_memory
from ae_core.system.extras import missing_extra
from ae_core.training.engine import Engine


def main_jax() -> None:
    """Run the command line on the JAX twin."""
    leave(main("jax"))


def main_torch() -> None:
    """Run the command line on the PyTorch twin."""
    leave(main("torch"))


def main(twin: str, argv: list[str] | None = None) -> int:
    """Run one command and return its exit status.

    0: done; 1: a training diverged; 2: the user's input is wrong, said in one line; 130: Ctrl-C.
    """
    name = f"ae-{twin}"

    def work() -> int:
        require_extras(twin)
        from ae_core.commands.menu import Command

        command = parse(Command, name, argv, lambda: f"One autoencoder, written twice: the {twin} twin.\n\n{_kinds()}")
        engine = load_engine(twin)
        keep_freed_memory()
        engine.configure()
        status: int = command.run(engine)
        return status

    return run_program(name, work)


def _kinds() -> str:
    """Say what a spec may be put together from, kinds of plugins included."""
    known = {family: ", ".join(kinds(family)) for family in families()}
    return "Kinds of components: " + "; ".join(f"{family}: {names}" for family, names in known.items() if names) + "."


def require_extras(*twins: str) -> None:
    """Refuse to go on without what the twins need.

    Raises:
        UserError: says what to install.
    """
    for twin in twins:
        missing = missing_extra(twin)
        if missing:
            raise UserError(missing)


def load_engine(twin: str) -> Engine:
    """Import a twin and its half of each plugin, and return its engine.

    Raises:
        UserError: a plugin cannot be found, or its import fails.
    """
    engine: Engine = importlib.import_module(f"ae_{twin}.engine").ENGINE
    load_plugins((), twin)
    return engine
