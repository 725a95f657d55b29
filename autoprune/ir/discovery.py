"""Folders of which every file makes something known: operators, criteria, kernels, formats."""

from __future__ import annotations

from functools import cache
from importlib import import_module
from pkgutil import iter_modules


@cache
def import_files(package: str) -> None:
    """Import every file of a package, then those below, so that what they make known is known."""
    found = iter_modules(import_module(package).__path__, f"{package}.")
    for module in sorted(found, key=lambda module: module.ispkg):
        import_module(module.name)
