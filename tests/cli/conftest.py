import sys
import textwrap
from types import SimpleNamespace

import pytest

from autoprune.cli.main import main

NET = """
    import torch
    from torch import nn


    def build():
        torch.manual_seed(0)
        return nn.Sequential(
            nn.Conv2d(3, 32, 3), nn.BatchNorm2d(32), nn.ReLU(), nn.AdaptiveAvgPool2d(1),
            nn.Flatten(), nn.Linear(32, 48), nn.ReLU(), nn.Linear(48, 5),
        )


    def pair():
        return build(), torch.zeros(2, 3, 8, 8)


    def latest(units):
        return range(units.units)


    def deep():
        return nn.Sequential(*(nn.Linear(8, 8) for _ in range(50))), torch.zeros(2, 8)


    class Words(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed = nn.Embedding(50, 16)
            self.hidden = nn.Linear(16, 32)
            self.out = nn.Linear(32, 2)

        def forward(self, ids, weight=None):
            x = self.hidden(self.embed(ids)).relu()
            return self.out(x if weight is None else x * weight[..., None])


    class Experts(nn.Module):
        def __init__(self):
            super().__init__()
            self.up = nn.Parameter(torch.randn(3, 4, 8))
            self.down = nn.Parameter(torch.randn(3, 8, 4))

        def forward(self, x):
            return torch.bmm(torch.bmm(x, self.up).relu(), self.down)


    def experts():
        torch.manual_seed(0)
        return Experts(), torch.randn(3, 5, 4)


    class TwoHeads(nn.Module):
        def __init__(self):
            super().__init__()
            self.body, self.head = nn.Linear(8, 16), nn.Linear(16, 4)

        def forward(self, x):
            hidden = self.body(x).relu()
            return self.head(hidden), hidden


    def broken():
        raise ValueError("no weights here")


    def number():
        return 3
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The current folder, with a module that builds networks."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tinynet.py").write_text(textwrap.dedent(NET))
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield tmp_path
    sys.modules.pop("tinynet", None)


@pytest.fixture
def run(folder, capsys):
    """Run a command line: its exit code and what it printed."""

    def call(line: str):
        capsys.readouterr()
        code = main(line.split())
        out, err = capsys.readouterr()
        assert "Traceback" not in err or "--debug" in line
        return SimpleNamespace(code=code, out=out, err=err)

    return call


@pytest.fixture
def onnx_output():
    """The first output of an ONNX file on zeros, in ONNX Runtime."""
    import numpy as np
    import onnxruntime

    def compute(path, shape):
        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        return session.run(None, {session.get_inputs()[0].name: np.zeros(shape, "float32")})[0]

    return compute
