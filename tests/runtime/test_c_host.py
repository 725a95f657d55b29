"""The C program of examples/c runs extracted artifacts as the runtime does."""

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from autoprune.runtime import Session, extract
from tests.runtime.artifacts import X
from tests.tolerance import ROUNDING_SINGLE

EXAMPLE = Path(__file__).parents[2] / "examples" / "c"


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    """Build the program and run it: the exit code, and what it printed."""
    if shutil.which("make") is None or shutil.which("cc") is None:
        pytest.skip("make or a C compiler is not installed")
    folder = tmp_path_factory.mktemp("c")
    command = ["make", "--silent", "-C", EXAMPLE, f"PYTHON={sys.executable}", f"OUT={folder}"]
    subprocess.run([*command, "CC=cc -Werror"], check=True)

    def run(*words):
        done = subprocess.run(
            [folder / "run", *map(str, words)], capture_output=True, text=True, check=False
        )
        return done.returncode, done.stdout, done.stderr

    return run


@pytest.mark.parametrize("trusted", [True, False])
def test_it_computes_the_same(trusted, program, native, tmp_path):
    path, digest = native
    extract(path, tmp_path / "out", digest=digest if trusted else None)
    np.save(tmp_path / "x.npy", X + 5)
    words = ["-t", 1, "-n", 3, "-o", tmp_path, tmp_path / "out", f"x={tmp_path / 'x.npy'}"]
    code, said, err = program(*words)
    assert (code, err) == (0, "")
    assert said.startswith("median ")
    assert said.splitlines()[1] == f"{tmp_path / 'output0.npy'}: y"
    np.testing.assert_array_equal(np.load(tmp_path / "output0.npy"), 2 * (X + 5) + 1)


@pytest.mark.slow
def test_a_compiled_network(program, tmp_path):
    pytest.importorskip("tvm", reason="needs apache-tvm")
    import autoprune
    from tests.arm.networks import make

    network, x = make("convolutional")
    compiled = autoprune.compile(network, x, measure=False)
    path = tmp_path / "model.apz"
    digest = compiled.save(path)
    extract(path, tmp_path / "out", digest=digest)
    given = 1.5 * x.numpy()
    np.save(tmp_path / "x.npy", given)
    session = Session(path, digest=digest)
    assert session.backend.startswith("native")
    (name,) = (spec.name for spec in session.inputs)
    (expected,) = session.run({name: given}).values()
    words = ["-t", 2, "-n", 5, "-o", tmp_path, tmp_path / "out", f"{name}={tmp_path / 'x.npy'}"]
    code, _, err = program(*words)
    assert (code, err) == (0, "")
    got = np.load(tmp_path / "output0.npy")
    scale = float(np.abs(expected).max())
    np.testing.assert_allclose(got, expected, rtol=0, atol=ROUNDING_SINGLE * scale / 10)


def test_what_it_refuses(program, native, tmp_path):
    path, digest = native
    extract(path, out := tmp_path / "out", digest=digest)
    arrays = {
        "x": X,
        "wide": np.zeros((2, 5), np.float32),
        "double": X.astype(np.float64),
        "columns": np.asfortranarray(X),
        "complex": X.astype(np.complex64),
        "deep": np.zeros((1,) * 9, np.float32),
    }
    for name, array in arrays.items():
        np.save(tmp_path / f"{name}.npy", array)
    whole = (tmp_path / "x.npy").read_bytes()
    for name, data in (("short", whole[:-1]), ("stub", whole[:9]), ("text", b"no array at all")):
        (tmp_path / f"{name}.npy").write_bytes(data)
    for words, message in (
        ([], "usage"),
        ([tmp_path, "x=x.npy"], "model.onnx"),
        ([out], "it takes x"),
        ([out, "x.npy"], "NAME=ARRAY.npy"),
        ([out, "x=none.npy"], "cannot be opened"),
        ([out, f"y={tmp_path / 'x.npy'}"], "y"),
        ([out, f"x={tmp_path / 'wide.npy'}"], "run: "),
        ([out, f"x={tmp_path / 'double.npy'}"], "run: "),
        ([out, f"x={tmp_path / 'columns.npy'}"], "not row-major"),
        ([out, f"x={tmp_path / 'complex.npy'}"], "unknown type"),
        ([out, f"x={tmp_path / 'deep.npy'}"], "more than 8 dimensions"),
        ([out, f"x={tmp_path / 'short.npy'}"], "truncated"),
        ([out, f"x={tmp_path / 'stub.npy'}"], "truncated"),
        ([out, f"x={tmp_path / 'text.npy'}"], "no .npy file"),
        (["-t", "0", out], "no number"),
        (["-o", tmp_path / "none", out, f"x={tmp_path / 'x.npy'}"], "cannot be opened"),
    ):
        code, _, err = program(*words)
        assert code == 1, words
        assert message in err, words
