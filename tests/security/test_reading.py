"""Folders, pipes and devices in the place of files: an error at once, wherever a file is read."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import numpy as np
import pytest
from torch import nn

import autoprune as ap
from autoprune.cli.main import main
from autoprune.errors import AutopruneError
from autoprune.frameworks.torch.pt2 import load_pt2
from autoprune.passes.kernels.cuda.library import Library
from autoprune.runtime import Session
from autoprune.runtime.commands import read_arrays
from autoprune.runtime.errors import AutopruneRuntimeError, InputError

pytestmark = pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="pipes with names are of Unix")

READERS = {
    "net.onnx": ap.inspect,
    "net.pt2": load_pt2,
    "plan.json": ap.Plan.load,
    "net.safetensors": lambda path: ap.load(nn.Linear(2, 2), path),
    "net.apz": Session,
    "x.npz": lambda path: read_arrays([str(path)]),
    "x.npy": lambda path: read_arrays([f"x={path}"]),
    "kernels.so": lambda path: Library(path).device,
}


@pytest.fixture(autouse=True)
def in_time():
    """Whatever waits for a pipe, or reads a device to its end, is interrupted."""

    def late(*_):
        raise TimeoutError("it waits")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(60)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


def put(kind: str, path: Path) -> None:
    if kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    else:
        path.symlink_to("/dev/zero")


@pytest.mark.parametrize("kind", ["folder", "pipe", "device"])
@pytest.mark.parametrize("name", READERS)
def test_what_is_no_file_is_an_error(name, kind, tmp_path):
    put(kind, tmp_path / name)
    with pytest.raises((AutopruneError, AutopruneRuntimeError, OSError)) as raised:
        READERS[name](tmp_path / name)
    assert not isinstance(raised.value, TimeoutError)
    assert name in str(raised.value)


@pytest.mark.parametrize("option", ["-o", "--plan", "--report", "--html"])
def test_an_output_that_is_no_file_is_an_error_before_the_work(option, tmp_path, capsys):
    path = tmp_path / "out.json"
    os.mkfifo(path)
    outputs = ["-o", str(tmp_path / "net.json"), option, str(path)]
    assert main(["prune", "none:build", "--flops", "0.5", *outputs]) == 1
    assert "it is a pipe or a device" in capsys.readouterr().err


def test_arrays_that_claim_more_than_there_is(tmp_path):
    path = tmp_path / "x.npy"
    np.save(path, np.zeros(4, np.float32))
    claimed = path.read_bytes().replace(b"(4,), }" + 11 * b" ", b"(4398046511104,), }")
    assert len(claimed) >= len(path.read_bytes())
    path.write_bytes(claimed)
    with pytest.raises(InputError, match="holds no arrays"):
        read_arrays([f"x={path}"])
