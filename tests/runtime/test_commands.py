"""`run`, `bench` and `verify`, of autoprune and of the runtime alone."""

import contextlib
import random
import shutil
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest

import autoprune.cli.main
import autoprune.runtime.__main__
from autoprune.runtime.commands import read_arrays
from autoprune.runtime.errors import InputError
from tests.effort import examples
from tests.runtime.artifacts import X, dense_contents

MAINS = [autoprune.cli.main.main, autoprune.runtime.__main__.main]


@pytest.fixture(params=MAINS, ids=["autoprune", "alone"])
def command(request, capsys):
    """Run a command line; the exit code, and what it printed."""

    def run(*words) -> tuple[int, str, str]:
        code = request.param([str(word) for word in words])
        return code, *capsys.readouterr()

    return run


def test_verify(command, native):
    path, digest = native
    code, out, err = command("verify", path, "--digest", digest)
    assert (code, err) == (0, "")
    assert f"digest {digest}" in out
    assert "native here: equal to the outputs of 1 test vectors" in out


def test_untrusted_code_is_mentioned(command, native):
    code, out, err = command("verify", native[0])
    assert code == 0
    assert "dense: equal" in out
    assert err.startswith("note: the artifact's native code is not loaded")
    assert command("verify", native[0], "--dense")[2] == ""


def test_verify_fails(command, save):
    path, _ = save(dense_contents(), examples=[({"x": X}, {"y": X})])
    code, _, err = command("verify", path)
    assert code == 1
    assert err.startswith("error: on this machine the network gives other outputs")


@pytest.mark.parametrize("form", ["npy", "npz", "test vector"])
def test_run(command, dense, tmp_path, form):
    x = X if form == "test vector" else X + 5
    np.save(tmp_path / "x.npy", x)
    np.savez(tmp_path / "inputs.npz", x=x)
    words = {"npy": [f"x={tmp_path / 'x.npy'}"], "npz": [tmp_path / "inputs.npz"]}.get(form, [])
    output = tmp_path / "out.npz"
    code, out, _ = command("run", dense, *words, "-o", output)
    assert code == 0
    assert out.startswith("y: float32 3x4 from ")
    np.testing.assert_array_equal(np.load(output)["y"], 2 * x + 1)
    assert not list(tmp_path.glob(".*.part"))


def test_bench(command, dense):
    code, out, _ = command("bench", dense, "--seconds", "0.01", "--threads", "1")
    assert code == 0
    assert out.startswith("dense, x: float32[3,4]\nmedian ")


def test_errors_are_one_message(command, dense, tmp_path):
    broken = tmp_path / "broken.apz"
    broken.write_bytes(dense.read_bytes()[:-1])
    text = tmp_path / "text.npz"
    text.write_text("no arrays")
    np.save(tmp_path / "pickle.npy", np.array([{}]), allow_pickle=True)
    for words, message in (
        (["verify", broken], "truncated"),
        (["verify", tmp_path / "none.apz"], "none.apz"),
        (["verify", dense, "--digest", "0" * 64], "another digest"),
        (["run", dense, text], "holds no arrays"),
        (["run", dense, f"x={tmp_path / 'pickle.npy'}"], "holds no arrays"),
        (["run", dense, tmp_path / "none.npz"], "none.npz"),
        (["run", dense, "-o", tmp_path / "missing" / "out.npz"], "out.npz"),
        (["bench", dense, "--provider", "Abacus"], "no execution provider"),
    ):
        code, _, err = command(*words)
        assert code == 1
        assert err.startswith("error: ")
        assert message in err
        assert "Traceback" not in err


def test_alone(native, tmp_path):
    """The folder under its other name, with nothing of autoprune."""
    path, digest = native
    shutil.copytree(Path(autoprune.runtime.__file__).parent, tmp_path / "autoprune_runtime")
    code = (
        "import sys; sys.path.insert(0, sys.argv.pop(1))\n"
        "from autoprune_runtime.__main__ import main\n"
        "assert main() == 0\n"
        "print(*{'autoprune', 'onnx', 'torch'} & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path), "verify", str(path), "--digest", digest],
        cwd=tmp_path,
        check=True,
        capture_output=True,
        text=True,
    )
    assert "native here: equal" in done.stdout
    assert done.stdout.splitlines()[-1] == ""


@pytest.mark.parametrize("form", ["npy", "npz", "compressed"])
def test_damaged_arrays(form, tmp_path):
    """Arrays, or one error that names the file; a pickle never."""
    path = tmp_path / f"x.{form[:3]}"
    if form == "npy":
        np.save(path, X)
    else:
        path = tmp_path / "x.npz"
        (np.savez if form == "npz" else np.savez_compressed)(path, x=X, y=X)
    good, rng = path.read_bytes(), random.Random(0)
    for _ in range(examples(200)):
        data = bytearray(good)
        for _ in range(rng.randint(1, 3)):
            at = rng.randrange(len(data))
            data[at] = rng.choice([data[at] ^ 1 << rng.randrange(8), rng.randrange(256), 0x28])
        path.write_bytes(data[: rng.choice([len(data), len(data), rng.randrange(len(data))])])
        with contextlib.suppress(InputError), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            arrays = read_arrays([f"x={path}" if form == "npy" else str(path)])
            assert all(array.dtype.kind != "O" for array in arrays.values())
