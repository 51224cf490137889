"""Plugins: packages outside this project that bring components and presets of their own.

A plugin is a package whose ``__init__`` has the spec classes and presets, with NumPy at most, and whose submodules
``jax`` and ``torch`` register with the doors of a twin what those classes stand for. Importing is all that it takes, so
a library user writes ``import my_plugin.jax``. The programs import what they are told of here: by ``--plugin``, by the
variable :data:`VARIABLE`, and by the installed packages that have an entry point of :data:`GROUP`. A file never is a
reason to import anything.
"""

import importlib
import os
import sys
import traceback
from collections.abc import Sequence
from importlib.metadata import entry_points
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

from ae_core.errors import UserError

VARIABLE = "AE_PLUGINS"
"""Environment variable with names and paths of plugins, between them what is between the folders of ``PATH``."""
GROUP = "twin_autoencoders"
"""Group of entry points, each of which has the name of a package as its value."""
EXPECTED = "expected the name of a package that can be imported, or the path of its folder"


def load_plugins(names: Sequence[str], twin: str | None) -> None:
    """Import the plugins that are named here, then those of the environment, then those of entry points.

    Each is the name of a package that can be imported, or the path of a package's folder, which is imported by the
    folder's name; a name wins over a folder that is called the same. What is imported already is not imported again.
    All but the last go into :data:`VARIABLE`, so that the processes that this one starts import the same.

    Args:
        names: as ``--plugin`` gives them.
        twin: jax or torch, whose half of each plugin is imported too where it has one; None for neither's.

    Raises:
        UserError: a plugin cannot be found, or its import fails; the message names it.
    """
    inherited = [name for name in os.environ.get(VARIABLE, "").split(os.pathsep) if name]
    sources = [(name, "--plugin") for name in names] + [(name, VARIABLE) for name in inherited]
    loaded = [_load(name, where, twin) for name, where in sources]
    for point in entry_points(group=GROUP):
        _load(point.module, f'entry point "{point.name}" of {GROUP}', twin)
    if loaded:
        os.environ[VARIABLE] = os.pathsep.join(dict.fromkeys(loaded))


def _load(name: str, where: str, twin: str | None) -> str:
    """Import one plugin and return what another process, in another folder, finds it by: a name or an absolute path."""
    package = name
    if not _is_package(name, where):
        if not Path(name).is_dir():
            raise UserError(f'{where}: given "{name}", which is not there or not a package; {EXPECTED}')
        folder = Path(os.path.abspath(name))  # a link keeps its name
        name, package = str(folder), _on_path(folder, where)
        _import(package, name, where)
    if twin is not None and find_spec(f"{package}.{twin}") is not None:
        _import(f"{package}.{twin}", name, where)
    return name


def _is_package(name: str, where: str) -> bool:
    """Import what has this name, if anything has, and say whether it is a package with an ``__init__``."""
    if not all(part.isidentifier() for part in name.split(".")):
        return False
    try:
        found = _import(name, name, where)
    except ModuleNotFoundError:
        return False
    # a module that is no package has no halves; a folder without __init__, such as one of images, is none of ours
    return hasattr(found, "__path__") and found.__file__ is not None


def _on_path(folder: Path, where: str) -> str:
    """Return the name by which a folder is imported, with its parent on ``sys.path``.

    The parent comes last there, so that what else lies in it hides no other package.
    """
    given = f'{where}: given "{folder}"'
    if not (folder / "__init__.py").is_file() or not folder.name.isidentifier():
        raise UserError(f"{given}; expected a folder with an __init__.py, whose name is a Python identifier")
    if os.pathsep in str(folder):
        raise UserError(f'{given}; expected a path without "{os.pathsep}", which separates paths in {VARIABLE}')
    if str(folder.parent) not in sys.path:
        sys.path.append(str(folder.parent))
    importlib.invalidate_caches()
    found = find_spec(folder.name)
    if found is None or found.origin is None or not Path(found.origin).parent.samefile(folder):
        other = "nothing" if found is None else found.origin or "a folder without __init__.py"
        raise UserError(f"{given}, but its name finds {other}; expected a name that no other package has")
    return folder.name


def _import(module: str, name: str, where: str) -> ModuleType:
    """Return a module of the plugin ``name``.

    Raises:
        ModuleNotFoundError: there is none of this name.
        UserError: there is, but its import fails.
    """
    try:
        return importlib.import_module(module)
    except (Exception, SystemExit) as error:  # a plugin is anybody's code
        if isinstance(error, ModuleNotFoundError) and error.name and f"{module}.".startswith(f"{error.name}."):
            raise
        raised = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
        message = f'{where}: given "{name}"; importing {module} raised {raised}{_place(module, error)}'
        raise UserError(f"{message}; expected a package that can be imported") from error


def _place(module: str, error: BaseException) -> str:
    """Return where in the plugin an error was raised, to stand behind its message; nothing where that is not known."""
    found = find_spec(module.partition(".")[0])
    folder = Path(found.origin).parent if found and found.origin else None
    own = [frame for frame in traceback.extract_tb(error.__traceback__) if folder in Path(frame.filename).parents]
    return f" ({own[-1].filename}, line {own[-1].lineno})" if own else ""
