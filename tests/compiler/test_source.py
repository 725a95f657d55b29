"""Networks saved as C source run in ONNX Runtime as their artifacts do."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shlex
import shutil
import subprocess
import sys

import numpy as np
import pytest

pytest.importorskip("tvm", reason="needs apache-tvm")

import torch
from torch import nn

import autoprune as ap
from autoprune.cli.main import main
from autoprune.frameworks.onnx.sessions import open_session
from autoprune.runtime import Session
from autoprune.runtime.cpu import this_cpu
from tests.arm.networks import NETWORKS, make
from tests.tolerance import ROUNDING_SINGLE

X86 = this_cpu().machine == "x86-64"


@pytest.fixture(scope="module", params=NETWORKS)
def saved(request, tmp_path_factory):
    """A compiled network, and the folder of its source."""
    folder = tmp_path_factory.mktemp(request.param)
    network, x = make(request.param)
    compiled = ap.compile(network, x, target="x86-64-v3" if X86 else "arm64", measure=False)
    compiled.save_source(folder / "source")
    return compiled, folder / "source"


def build(folder, *more, compiler="cc"):
    """Build a library by the command in the README."""
    if shutil.which(compiler) is None:
        pytest.skip(f"{compiler} is not installed")
    (command,) = re.findall(r"^cc .*$", (folder / "README.md").read_text(), re.MULTILINE)
    library = folder.parent / "operators.so"
    _, *words = shlex.split(command.replace("*.c", " ".join(p.name for p in folder.glob("*.c"))))
    words = [str(library) if word == "operators.so" else word for word in words]
    subprocess.run([compiler, *words, *more], cwd=folder, check=True)
    return library


def feed(compiled, seed=1):
    rng = np.random.default_rng(seed)
    inputs, _ = compiled.contents.examples[0]
    return {n: rng.standard_normal(a.shape).astype(np.float32) for n, a in inputs.items()}


def close(got, expected):
    scale = float(np.abs(expected).max())
    np.testing.assert_allclose(got, expected, rtol=0, atol=ROUNDING_SINGLE * scale / 10)


def test_the_same_outputs_as_the_artifact(saved, tmp_path):
    compiled, folder = saved
    library = build(folder)
    digest = compiled.save(tmp_path / "model.apz")
    given = feed(compiled)
    (expected,) = Session(tmp_path / "model.apz", digest=digest).run(given).values()
    model = (folder / "model.onnx").read_bytes()
    for threads in (1, 2):
        (got,) = open_session(model, threads, library=library).run(None, given)
        close(got, expected)


def test_integers(tmp_path):
    """Written out, 8-bit products are the same integers as the processor's."""
    if "avx512_vnni" not in this_cpu().features:
        pytest.skip("this processor has no dot products of 8-bit integers to compare with")
    network, x = make("encoder")
    compiled = ap.compile(network, x, int8=True, measure=False)
    compiled.save_source(tmp_path / "source")
    library = build(tmp_path / "source")
    digest, given = compiled.save(tmp_path / "model.apz"), feed(compiled)
    (expected,) = Session(tmp_path / "model.apz", digest=digest).run(given).values()
    assert "SparseLinearInt8" in str(compiled.contents.model)
    model = (tmp_path / "source" / "model.onnx").read_bytes()
    (got,) = open_session(model, 1, library=library).run(None, given)
    close(got, expected)


def test_under_sanitizers_in_onnx_runtime(saved, tmp_path):
    """Without optimization, in two threads."""
    compiled, folder = saved
    library = build(folder, "-O0", "-fsanitize=address,undefined", "-fno-sanitize-recover=all")
    names = ("libasan.so", "libubsan.so")
    runtime = [
        subprocess.run(
            ["cc", f"-print-file-name={name}"], capture_output=True, text=True, check=True
        ).stdout.strip()
        for name in names
    ]
    if "/" not in runtime[0]:
        pytest.skip("the sanitizers of cc are not installed")
    given = feed(compiled)
    np.savez(tmp_path / "given.npz", **given)
    code = (
        "import sys, numpy as np, onnxruntime\n"
        "model, library, given, made = sys.argv[1:]\n"
        "options = onnxruntime.SessionOptions()\n"
        "options.intra_op_num_threads = 2\n"
        "options.register_custom_ops_library(library)\n"
        "session = onnxruntime.InferenceSession(model, options)\n"
        "np.save(made, session.run(None, dict(np.load(given)))[0])\n"
    )
    paths = [folder / "model.onnx", library, tmp_path / "given.npz", tmp_path / "made.npy"]
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, paths)],
        env={**os.environ, "LD_PRELOAD": " ".join(runtime), "ASAN_OPTIONS": "detect_leaks=0"},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    (expected,) = open_session(compiled.contents.dense, 1).run(None, given)
    close(np.load(tmp_path / "made.npy"), expected)


def test_the_manifest_states_every_file(saved):
    compiled, folder = saved
    manifest = json.loads((folder / "manifest.json").read_text())
    files = {p.name: p.read_bytes() for p in folder.iterdir() if p.name != "manifest.json"}
    assert manifest["files"] == {
        name: {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()}
        for name, data in files.items()
    }
    assert files["model.onnx"] == compiled.contents.model
    assert [spec["name"] for spec in manifest["inputs"]] == list(feed(compiled))


@pytest.mark.parametrize("saved", ["encoder"], indirect=True)
def test_a_folder_with_something_in_it_is_left_alone(saved, tmp_path):
    compiled, _ = saved
    (tmp_path / "mine").write_text("precious")
    with pytest.raises(FileExistsError):
        compiled.save_source(tmp_path)
    with pytest.raises(FileExistsError):
        compiled.save_source(tmp_path / "mine")
    with pytest.raises(FileNotFoundError):
        compiled.save_source(tmp_path / "none" / "source")
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]
    (tmp_path / "empty").mkdir()
    compiled.save_source(tmp_path / "empty")
    assert (tmp_path / "empty" / "README.md").exists()


def test_nothing_sparse(tmp_path):
    model = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 10)).eval()
    compiled = ap.compile(model, torch.randn(2, 64))
    with pytest.raises(ap.TargetError, match="no layer runs on sparse kernels"):
        compiled.save_source(tmp_path / "source")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("saved", ["encoder"], indirect=True)
def test_on_the_command_line(saved, tmp_path, capsys):
    compiled, folder = saved
    model = tmp_path / "small.onnx"
    model.write_bytes(compiled.contents.dense)
    target = compiled.contents.libraries[0].label
    words = ["compile", model, "-o", tmp_path / "small.apz", "--target", target, "--no-measure"]
    assert main([*map(str, words), "--source", str(tmp_path / "source")]) == 0
    names = sorted(path.name for path in (tmp_path / "source").iterdir())
    assert names == sorted(path.name for path in folder.iterdir())
    assert main([*map(str, words), "--source", str(tmp_path / "source")]) == 1
    assert "there is something already" in capsys.readouterr().err
