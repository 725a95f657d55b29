"""Choosing and loading native code. Its loading is what running an unknown program is."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .cpu import Cpu
from .errors import TargetError
from .manifest import Library

SUFFIXES = {"darwin": ".dylib", "windows": ".dll"}
"""Of shared libraries, where it is not `.so`."""


def choose_library(libraries: Sequence[Library], cpu: Cpu) -> Library:
    """The first, that is the best, of the libraries that the processor can run.

    Raises:
        TargetError: listing what each lacks, if none fits.
    """
    for library in libraries:
        if not missing(library, cpu):
            return library
    lacking = "; ".join(f"{lib.label} needs {', '.join(missing(lib, cpu))}" for lib in libraries)
    raise TargetError(
        f"no library of the artifact runs on this {cpu.machine} processor: {lacking}",
        hint="compile for this target, or pass native=False (--dense) or fallback=True "
        "(--fallback) to run the standard model",
    )


def missing(library: Library, cpu: Cpu) -> list[str]:
    """What a processor lacks to run a library: the system, the architecture, or features."""
    if (library.system, library.machine) != (cpu.system, cpu.machine):
        return [f"{library.system} on {library.machine}"]
    return [feature for feature in library.features if feature not in cpu.features]


def register_library(options: Any, data: bytes, library: Library) -> None:
    """Load a library, whose bytes were checked and are trusted, into ONNX Runtime.

    It passes through a file in a fresh folder that only this user can enter, and that is gone when
    this returns.

    Args:
        options: the `onnxruntime.SessionOptions` that get the custom operators.
        data: its bytes.
        library: what the manifest says of it.

    Raises:
        TargetError: if it does not load.
    """
    # Windows keeps the file of a loaded library locked, so there the folder may stay.
    with tempfile.TemporaryDirectory(prefix="autoprune-", ignore_cleanup_errors=True) as folder:
        path = Path(folder, f"kernels{SUFFIXES.get(library.system, '.so')}")
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        try:
            options.register_custom_ops_library(str(path))
        except Exception as error:
            raise TargetError(
                f"the library {library.label} does not load: {first_line(error)}",
                where=library.member,
                hint="compile on a system as old as this one; if the folder for temporary files "
                "forbids execution, set TMPDIR to another",
            ) from error


def first_line(error: Exception) -> str:
    """The first line of an error's message."""
    return (str(error).strip() or "no message").splitlines()[0]
