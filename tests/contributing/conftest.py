"""Files of contributors, put where they belong for the time of a test."""

from __future__ import annotations

import sys
from importlib import import_module, util
from pathlib import Path

import pytest

from autoprune.ir.discovery import import_files

SCRATCH = Path(__file__).with_name("scratch")


@pytest.fixture
def lay(monkeypatch):
    """Lays the files of a scratch folder into a package; what they register is forgotten again."""
    undone = []

    def lay(folder, package, registry):
        import_files(package)  # what is there anyway is not of the test
        before, parent = set(registry), import_module(package)
        monkeypatch.setattr(parent, "__path__", [*parent.__path__, str(SCRATCH / folder)])
        undone.append((registry, before))
        import_files.cache_clear()
        import_files(package)
        return set(registry) - before

    yield lay
    import_files.cache_clear()
    for registry, before in undone:
        _forget(registry, before)
    for name, module in list(sys.modules.items()):
        if str(SCRATCH) in str(getattr(module, "__file__", "")):
            del sys.modules[name]


@pytest.fixture
def run_file():
    """Imports one scratch file, as a user's own; what it registers is forgotten again."""
    undone = []

    def run_file(path, registry):
        undone.append((registry, set(registry)))
        spec = util.spec_from_file_location(f"scratch_{Path(path).stem}", SCRATCH / path)
        spec.loader.exec_module(util.module_from_spec(spec))
        return set(registry) - undone[-1][1]

    yield run_file
    for registry, before in undone:
        _forget(registry, before)


def _forget(registry, before):
    for name in set(registry) - before:
        registry.pop(name) if isinstance(registry, dict) else registry.forget(name)
