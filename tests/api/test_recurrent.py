"""Recurrent networks come out in their own class, with the sizes their layers keep."""

import warnings

import pytest
import torch
from torch import nn

import autoprune as ap


class Reader(nn.Module):
    """Reads a sequence and judges the last step."""

    def __init__(self, layer, width):
        super().__init__()
        self.embed = nn.Linear(3, 8)
        self.layer = layer
        self.judge = nn.Linear(width, 2)

    def forward(self, x):
        return self.judge(self.layer(self.embed(x))[0][:, -1])


class Stepper(Reader):
    """The same with a cell in a loop."""

    def forward(self, x):
        state = None
        for step in self.embed(x).unbind(1):
            state = self.layer(step, state)
        return self.judge(state[0] if isinstance(state, tuple) else state)


@pytest.mark.parametrize(
    ("model", "sizes"),
    [
        (Reader(nn.LSTM(8, 12, 2, batch_first=True, bidirectional=True), 24), (4, 6, 0)),
        (Reader(nn.LSTM(8, 12, batch_first=True, proj_size=4), 4), (4, 12, 2)),
        (Reader(nn.GRU(8, 8, batch_first=True), 8), (4, 4, 0)),
        (Reader(nn.RNN(8, 12, bias=False, batch_first=True), 12), (4, 6, 0)),
        (Stepper(nn.LSTMCell(8, 12), 12), (4, 6, None)),
        (Stepper(nn.GRUCell(8, 8), 8), (4, 4, None)),
    ],
    ids=lambda p: type(p.layer).__name__ if isinstance(p, nn.Module) else "",
)
def test_sizes_follow(model, sizes):
    x = torch.randn(5, 6, 3)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        result = ap.prune(model, x, channels=0.5)
    assert not [w for w in caught if "_flat_weights" in str(w.message)]
    small = result.model
    assert type(small) is type(model)
    layer = small.layer
    assert (layer.input_size, layer.hidden_size, getattr(layer, "proj_size", None)) == sizes
    small.train()(torch.randn(2, 9, 3)).sum().backward()
    assert all(p.grad is not None for p in small.parameters())
