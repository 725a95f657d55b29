"""The examples of training in several processes and with trainers run as they say."""

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from autoprune.cli.demo import load_digits, onnx_accuracy
from tests.effort import FUZZ
from tests.tolerance import BUDGET

EXAMPLES = Path(__file__).parents[2] / "examples"
TORCHRUN = ["-m", "torch.distributed.run", "--nproc-per-node", "2"]
RUNS = {
    "train_once_torchrun": TORCHRUN,
    "train_once_accelerate": TORCHRUN,
    "train_once_lightning": [],
}
LEARNED = 0.9
"""More digits than a network recognizes that training, or the cut, left broken."""


@pytest.mark.slow
@pytest.mark.parametrize("name", RUNS if FUZZ else ["train_once_torchrun"])
def test_example(name, tmp_path):
    library = name.rpartition("_")[2]
    if library != "torchrun" and importlib.util.find_spec(library) is None:
        pytest.skip(f"pip install {library}")
    onnx = tmp_path / "small.onnx"
    script = [*RUNS[name], str(EXAMPLES / f"{name}.py")]
    done = subprocess.run(
        [sys.executable, *script, "--epochs", "2", "--output", str(onnx)],
        cwd=tmp_path,
        env={**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    share = re.search(r"^([\d.]+)% of the FLOPs, accuracy", done.stdout, re.MULTILINE)
    assert 0.3 - 2 * BUDGET < float(share[1]) / 100 < 0.3 + BUDGET
    assert onnx_accuracy(onnx, load_digits()) > LEARNED
