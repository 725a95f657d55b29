"""Every file that is written: all of it or nothing, under a fresh name, through no link."""

from __future__ import annotations

import errno
import os
import stat
import subprocess
import sys
from functools import cache
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

import autoprune as ap
import autoprune.ir.files
import autoprune.runtime.files
from autoprune.cli.main import main
from autoprune.frameworks.onnx.file import write_onnx
from autoprune.passes.lower.artifact import write_artifact
from tests.runtime.artifacts import dense_contents

FILES = [autoprune.ir.files, autoprune.runtime.files]
both = pytest.mark.parametrize("files", FILES, ids=["autoprune", "runtime"])


@both
def test_a_new_file(files, tmp_path):
    path = tmp_path / ("n" * 250)  # as long as a name may be, or nearly
    before = os.umask(0o027)
    try:
        with files.replacing(path) as file:
            file.write(b"new")
            assert not path.exists()
    finally:
        os.umask(before)
    assert path.read_bytes() == b"new"
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert os.listdir(tmp_path) == [path.name]


@both
def test_names_cannot_be_guessed(files, tmp_path):
    def names():
        with files.replacing(tmp_path / "a"), files.replacing(tmp_path / "a"):
            return set(os.listdir(tmp_path)) - {"a"}

    first, second = names(), names()
    assert len(first) == len(second) == 2
    assert not first & second
    assert all(len(name) > 20 for name in first | second)


@both
@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit, OSError])
def test_what_fails_leaves_everything_as_it_was(files, error, tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"old")

    def fail():
        with files.replacing(path) as file:
            file.write(b"half")
            raise error

    with pytest.raises(error):
        fail()
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["file"]


@both
def test_a_name_that_exists_is_not_opened(files, tmp_path, monkeypatch):
    """Whoever guessed the name and put a link there is not obeyed."""
    victim = tmp_path / "victim"
    victim.write_bytes(b"precious")
    monkeypatch.setattr(files.secrets, "token_hex", lambda n: "guessed")
    for link in (victim, tmp_path / "nowhere"):
        planted = tmp_path / ".guessed.part"
        planted.symlink_to(link)
        with pytest.raises(FileExistsError, match="file"), files.replacing(tmp_path / "file"):
            pass
    assert victim.read_bytes() == b"precious"
    assert not (tmp_path / "nowhere").exists()


@both
def test_a_link_is_replaced_itself(files, tmp_path):
    victim = tmp_path / "victim"
    victim.write_bytes(b"precious")
    for target in (victim, tmp_path / "nowhere"):
        link = tmp_path / f"to_{target.name}"
        link.symlink_to(target)
        with files.replacing(link) as file:
            file.write(b"new")
        assert not link.is_symlink()
        assert link.read_bytes() == b"new"
    assert victim.read_bytes() == b"precious"
    assert not (tmp_path / "nowhere").exists()


@both
@pytest.mark.parametrize("kind", ["folder", "pipe", "link to a device"])
def test_what_is_no_file_is_not_replaced(files, kind, tmp_path):
    path = tmp_path / "path"
    if kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    else:
        path.symlink_to("/dev/null")
    before = path.lstat()
    with pytest.raises(OSError, match="not a file") as raised, files.replacing(path):
        pass
    assert raised.value.filename == str(path)
    assert path.lstat() == before
    assert os.listdir(tmp_path) == ["path"]


@both
def test_errors_name_the_file_that_was_asked_for(files, tmp_path):
    path = tmp_path / "none" / "file"
    with pytest.raises(FileNotFoundError) as raised, files.replacing(path):
        pass
    assert raised.value.filename == str(path)
    path = tmp_path / "file"
    with pytest.raises(OSError, match="file") as raised, files.replacing(path):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert raised.value.filename == str(path)


@both
@pytest.mark.parametrize("kind", ["folder", "pipe", "device"])
def test_what_is_no_file_is_not_read(files, kind, tmp_path):
    path = tmp_path if kind == "folder" else Path("/dev/zero")
    if kind == "pipe":
        path = tmp_path / "pipe"
        os.mkfifo(path)
    with pytest.raises(OSError, match=r"not a file|Is a directory"):
        files.open_file(path)


def large(seed: int) -> onnx.ModelProto:
    weight = np.random.default_rng(seed).standard_normal((64, 64)).astype(np.float32)
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])], "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 64])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 64])],
        [numpy_helper.from_array(weight, "w")],
    )  # fmt: skip
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt])
@pytest.mark.parametrize("failing", range(4))
@pytest.mark.parametrize("before", ["nothing", "both files"])
def test_a_model_and_its_external_data_belong_together(
    before, failing, error, tmp_path, monkeypatch
):
    path = tmp_path / "m.onnx"
    if before == "both files":
        write_onnx(large(0), path, external=True)
    old = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    moves, replace = [], Path.replace

    def failing_replace(made, target):
        moves.append(target)
        if len(moves) == failing + 1:
            raise error
        return replace(made, target)

    monkeypatch.setattr(Path, "replace", failing_replace)
    if before == "nothing" and failing > 1:
        pytest.skip("there are only two moves")
    with pytest.raises(error):
        write_onnx(large(1), path, external=True)
    monkeypatch.undo()
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == old
    write_onnx(large(1), path, external=True)
    assert sorted(os.listdir(tmp_path)) == ["m.onnx", "m.onnx.data"]
    assert onnx.load(path).graph.initializer[0].raw_data == large(1).graph.initializer[0].raw_data


@cache
def pruned() -> ap.TorchResult:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(16, 64), nn.ReLU(), nn.Linear(64, 16))
    return ap.prune(model, torch.randn(1, 16), channels=0.5)


def run_artifact(path: Path) -> None:
    artifact = path.with_name("artifact")
    if not artifact.exists():
        write_artifact(artifact, dense_contents())
    assert main(["run", str(artifact), "-o", str(path)]) == 0


WRITERS = {
    "net.pt2": lambda path: pruned().save(path),
    "net.onnx": lambda path: write_onnx(large(0), path),
    "net.safetensors": lambda path: pruned().save(path),
    "net.json": lambda path: pruned().save(path),
    "plan": lambda path: pruned().plan.save(path),
    "report.html": lambda path: pruned().report.save(path),
    "report.json": lambda path: pruned().report.save(path),
    "net.apz": lambda path: write_artifact(path, dense_contents()),
    "out.npz": run_artifact,
    "large.onnx": lambda path: write_onnx(large(0), path, external=True),
}


@pytest.mark.parametrize("name", WRITERS)
def test_every_writer(name, tmp_path, monkeypatch):
    """Stopped at the last moment it leaves the old file alone, and a link's target always."""
    path, victim = tmp_path / name, tmp_path / "victim"
    victim.write_bytes(b"precious")
    path.symlink_to(victim)
    if name == "out.npz":
        write_artifact(tmp_path / "artifact", dense_contents())
    before = sorted(os.listdir(tmp_path))

    for error in (KeyboardInterrupt(), OSError(errno.ENOSPC, "No space left on device")):

        def stop(*_, error=error):
            raise error

        with monkeypatch.context() as patch:
            patch.setattr(Path, "replace", stop)
            if name == "out.npz":
                code = main(["run", str(tmp_path / "artifact"), "-o", str(path)])
                assert code == (1 if isinstance(error, OSError) else 130)
            else:
                with pytest.raises((KeyboardInterrupt, OSError, ap.AutopruneError)):
                    WRITERS[name](path)
        assert sorted(os.listdir(tmp_path)) == before
        assert path.is_symlink()
    WRITERS[name](path)
    assert not path.is_symlink()
    assert victim.read_bytes() == b"precious"
    extra = ["large.onnx.data"] if name == "large.onnx" else []
    assert sorted(os.listdir(tmp_path)) == sorted(before + extra)


FULL = """
import resource, signal, sys
from pathlib import Path
import torch
from autoprune.frameworks.torch.trace import Inputs
from autoprune.frameworks.torch.files import write_pt2
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
try:
    write_pt2(torch.nn.Linear(32, 32), Inputs((torch.ones(1, 32),), {}), Path(sys.argv[1]), None)
except OSError as error:
    print(error, flush=True)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="limits of files are of Unix")
def test_a_full_disk_is_an_error(tmp_path):
    """Written by torch itself, it would be the end of the process."""
    path = tmp_path / "net.pt2"
    path.write_bytes(b"old")
    done = subprocess.run(
        [sys.executable, "-c", FULL, str(path)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "File too large" in done.stdout
    assert str(path) in done.stdout
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["net.pt2"]
