"""Saved files take any batch where the network does, and say so where it does not."""

import warnings

import numpy as np
import onnxruntime
import pytest
import torch
from torch import nn

import autoprune as ap
from autoprune.frameworks.torch.batch import batch_of, with_batch
from autoprune.frameworks.torch.trace import as_inputs
from tests.tolerance import ROUNDING_SINGLE


class Attention(nn.Module):
    """Reshapes by the batch that it is given."""

    def __init__(self):
        super().__init__()
        self.width = 8
        self.up = nn.Linear(8, 16)
        self.down = nn.Linear(16, 8)

    def forward(self, x, mask):
        batch, length, _ = x.shape
        heads = self.up(x).view(batch, length, -1, self.width).transpose(1, 2)
        scores = heads @ heads.transpose(2, 3) + mask[:, None, None, :]
        return self.down((scores.softmax(-1) @ heads).transpose(1, 2).flatten(2))


class Fixed(nn.Module):
    """Takes two rows and no other number of them."""

    def __init__(self):
        super().__init__()
        self.up, self.down = nn.Linear(8, 16), nn.Linear(16, 8)

    def forward(self, x):
        return self.down(self.up(x).relu().view(2, 4, 4).view(2, 16))


def output(path, *arrays):
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    names = [value.name for value in session.get_inputs()]
    return session.run(None, dict(zip(names, arrays, strict=True)))[0]


@pytest.mark.parametrize("batch", [1, 4])
def test_any_batch_runs(batch, tmp_path):
    torch.manual_seed(0)
    example = (torch.randn(batch, 3, 8), torch.zeros(batch, 3))
    result = ap.prune(Attention().eval(), example, channels=0.5)
    with warnings.catch_warnings():
        warnings.simplefilter("error", ap.Notice)
        result.save(tmp_path / "net.onnx")
        result.save(tmp_path / "net.pt2")
    program = torch.export.load(tmp_path / "net.pt2")
    assert [tuple(x.shape) for x in program.example_inputs[0]] == [(batch, 3, 8), (batch, 3)]
    for rows in (1, 2, 5):
        x, mask = torch.randn(rows, 3, 8), torch.randn(rows, 3)
        expected = result.model(x, mask).detach()
        found = output(tmp_path / "net.onnx", x.numpy(), mask.numpy())
        assert np.abs(found - expected.numpy()).max() < ROUNDING_SINGLE * 10
        assert torch.equal(program.module()(x, mask), expected)


@pytest.mark.parametrize("suffix", [".onnx", ".pt2"])
def test_a_batch_that_is_fixed_is_said_to_be(suffix, tmp_path):
    result = ap.prune(Fixed().eval(), torch.randn(2, 8), channels=0.5)
    with pytest.warns(ap.Notice, match="of the example inputs only: ") as found:
        result.save(tmp_path / f"net{suffix}")
    [notice] = [w for w in found if w.category is ap.Notice]
    assert notice.filename == __file__


def test_what_is_asked_for_is_done(tmp_path):
    net = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 2))
    options = ap.Options(dynamic_shapes="fixed")
    result = ap.prune(net, torch.randn(2, 8), channels=0.5, options=options)
    result.save(tmp_path / "net.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "net.onnx")
    assert session.get_inputs()[0].shape == [2, 8]
    sparse = ap.sparsify(net, torch.randn(2, 8), format="csr", sparsity=0.5)
    sparse.save(tmp_path / "sparse.onnx")
    assert "<td>0.weight</td>" in sparse._repr_html_()
    session = onnxruntime.InferenceSession(tmp_path / "sparse.onnx")
    assert session.get_inputs()[0].shape == ["batch", 8]


def test_rows_that_are_added_are_others():
    rows = with_batch(as_inputs(torch.arange(4.0)[None]), 3).args[0]
    assert len({tuple(row.tolist()) for row in rows}) == 3
    assert batch_of(as_inputs((torch.zeros(2, 3), torch.zeros(()), 4))) == 2
    assert batch_of(as_inputs((torch.zeros(2, 3), torch.zeros(3)))) == 0
