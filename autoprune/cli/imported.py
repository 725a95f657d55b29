"""What users name on the command line by `module:name`."""

from __future__ import annotations

import importlib
import sys
import traceback
from pathlib import Path
from typing import Any

from autoprune.errors import TraceError, first_line


def imported(text: str) -> Any:
    """What `module:name` means; the current folder is searched, too.

    Raises:
        TraceError: if there is no such module, it cannot be imported, or has nothing of that name.
    """
    module_name, _, attribute = text.partition(":")
    if module_name.endswith(".py") or "/" in module_name:
        raise TraceError(
            f"{module_name!r} is a path, not the name of a module",
            where=text,
            hint=f"write {Path(module_name).stem}:{attribute} and run from its folder",
        )
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        target: Any = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        raise TraceError(
            f"there is no module {error.name!r}",
            where=text,
            hint=f"run from the folder that holds it (now {here}), or install it",
        ) from error
    except Exception as error:
        raise failed(f"importing {module_name} failed", error) from error
    for name in attribute.split("."):
        if not hasattr(target, name):
            raise TraceError(
                f"{module_name!r} has no {attribute!r}", where=text, hint=_suggest(target)
            )
        target = getattr(target, name)
    return target


def _suggest(target: Any) -> str:
    public = [n for n, v in vars(target).items() if callable(v) and not n.startswith("_")]
    return "it has " + ", ".join(public[:8]) if public else "it has no callables"


def failed(what: str, error: Exception) -> TraceError:
    """Code of the user's failed; where, is the line at fault."""
    frame = traceback.extract_tb(error.__traceback__)[-1]
    line = first_line(error)
    return TraceError(
        f"{what}: {type(error).__name__}: {line}",
        where=f"{frame.filename}:{frame.lineno}: {frame.line}",
    )
