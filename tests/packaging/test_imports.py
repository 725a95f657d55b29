"""Importing autoprune is cheap, and each public name is there."""

import subprocess
import sys

import pytest

import autoprune

HEAVY = {"torch", "tvm", "onnx", "onnxruntime", "onnxscript"}


def modules_after(statement: str) -> set[str]:
    code = f"import sys\n{statement}\nprint(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    return set(done.stdout.split())


@pytest.mark.parametrize("module", ["autoprune", "autoprune.passes", "autoprune.runtime"])
def test_import_loads_no_framework(module):
    loaded = modules_after(f"import {module}")
    assert module in loaded
    assert not loaded & HEAVY
    assert not loaded & {"passes", "runtime"}


@pytest.mark.parametrize("name", autoprune.__all__)
def test_public_name_resolves(name):
    assert getattr(autoprune, name) is not None
    assert name in dir(autoprune)


def test_each_lazy_name_is_public():
    assert set(autoprune._MODULE_OF) <= set(autoprune.__all__)


def test_unknown_name_is_an_attribute_error():
    misspelt = "prunes"
    with pytest.raises(AttributeError, match="'autoprune' has no attribute 'prunes'"):
        getattr(autoprune, misspelt)


@pytest.mark.parametrize("old", autoprune._MOVED)
def test_a_moved_module_is_found_under_its_old_name(old):
    code = f"from {old} import Polynomial; print(Polynomial.__module__)"
    command = [sys.executable, "-W", "always", "-c", code]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    assert done.stdout == "autoprune.passes.learners.schedule\n"
    assert f"DeprecationWarning: {old} is {autoprune._MOVED[old]} now" in done.stderr
