"""Recurrent networks come out in their own class, with the sizes their layers keep."""

import warnings

import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

import autoprune as ap
from autoprune.frameworks.torch.equality import difference
from tests.tolerance import ROUNDING_SINGLE


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


class PackedReader(nn.Module):
    """The mean of what is read of each of several sequences."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Linear(3, 8)
        self.layer = nn.LSTM(8, 12, batch_first=True)
        self.judge = nn.Linear(12, 2)

    def forward(self, x, lengths):
        packed = pack_padded_sequence(self.embed(x), lengths, True, enforce_sorted=False)
        read, lengths = pad_packed_sequence(self.layer(packed)[0], batch_first=True)
        inside = torch.arange(read.shape[1]) < lengths[:, None]
        return self.judge((read * inside[..., None]).sum(1) / lengths[:, None])


@pytest.mark.parametrize("keep_class", [True, False])
def test_packed_sequences(keep_class, tmp_path):
    """The result reads sequences of other lengths than the example's as the zeroed model does."""
    torch.manual_seed(0)
    model, x = PackedReader(), torch.randn(3, 6, 3)
    given = (x, torch.tensor([4, 6, 1]))
    result = ap.prune(model, given, channels=0.5, options=ap.Options(keep_class=keep_class))
    assert isinstance(result.model, PackedReader) is keep_class
    assert [(row.kept, row.units) for row in result.report.groups] == [(4, 8), (6, 12)]
    with torch.no_grad():
        for group, choice in result.plan.groups.items():
            gone = [u for u in range(choice.units) if u not in choice.kept]
            if group.startswith("embed"):
                for tensor in (model.embed.weight, model.embed.bias):
                    tensor[gone] = 0
            else:
                for tensor in (getattr(model.layer, name) for name in model.layer._all_weights[0]):
                    tensor.view(4, 12, -1)[:, gone] = 0
    others = (x, torch.tensor([2, 5, 5]))
    expected = model.eval()(*others)
    assert difference(expected, result.model.eval()(*others)) <= ROUNDING_SINGLE
    result.save(tmp_path / "small.pt2")
    loaded = torch.export.load(tmp_path / "small.pt2").module()
    assert difference(expected, loaded(*others)) <= ROUNDING_SINGLE
