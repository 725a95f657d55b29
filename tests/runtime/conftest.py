import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from autoprune.passes.lower.artifact import Contents, write_artifact
from tests.runtime.artifacts import dense_contents, native_library, network


@pytest.fixture(scope="session")
def compile_library(tmp_path_factory):
    """Compile double.c, with a factor of one's choice."""
    if shutil.which("gcc") is None:
        pytest.skip("gcc is not installed")

    def compiled(factor: int = 2) -> bytes:
        path = tmp_path_factory.mktemp("library") / "double.so"
        source = Path(__file__).with_name("double.c")
        flags = ["-shared", "-fPIC", "-O1", f"-DFACTOR={factor}"]
        subprocess.run(["gcc", *flags, str(source), "-o", str(path)], check=True)
        return path.read_bytes()

    return compiled


@pytest.fixture(scope="session")
def library(compile_library) -> bytes:
    return compile_library()


@pytest.fixture
def save(tmp_path):
    """Write contents, changed as asked, and return the path and the digest."""

    def saved(contents: Contents, **changes) -> tuple[Path, str]:
        path = tmp_path / "model.apz"
        return path, write_artifact(path, replace(contents, **changes))

    return saved


@pytest.fixture
def dense(save):
    """The path of an artifact without native code."""
    return save(dense_contents())[0]


@pytest.fixture
def native(save, library):
    """The path and the digest of an artifact with native code for this machine."""
    return save(dense_contents(), model=network("custom"), libraries=[native_library(library)])
