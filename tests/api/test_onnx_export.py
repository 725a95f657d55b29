"""What torch.onnx.export gets wrong or lacks, and comes out right or is refused."""

from __future__ import annotations

import os

import numpy as np
import onnxruntime
import pytest
import torch
from torch import nn
from torch.nn import functional as F

import autoprune as ap
from autoprune.frameworks.onnx import large as onnx_large
from autoprune.frameworks.torch.equality import difference
from autoprune.frameworks.torch.export_onnx import export_onnx
from autoprune.frameworks.torch.objects import Inputs
from tests.tolerance import ROUNDING_SINGLE
from tests.zoo.models import get


class Attention(nn.Module):
    """Attention within windows: tensors of so many dimensions."""

    def __init__(self, *windows: int, mask: bool = False, causal: bool = False) -> None:
        super().__init__()
        self.qkv = nn.Linear(8, 24)
        self.windows, self.causal = windows, causal
        self.mask = torch.randn(*windows, 1, 5, 5) if mask else None

    def forward(self, x):
        q, k, v = (t.reshape(*self.windows, 2, 5, 4) for t in self.qkv(x).chunk(3, -1))
        return F.scaled_dot_product_attention(q, k, v, self.mask, is_causal=self.causal)


class Distances(nn.Module):
    def __init__(self, p: float) -> None:
        super().__init__()
        self.layer, self.p = nn.Linear(4, 8), p

    def forward(self, x):
        return torch.cdist(self.layer(x), x.repeat(1, 1, 2), self.p)


class Squeezed(nn.Module):
    """Squeezes an axis of another size, which torch leaves alone."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 8)

    def forward(self, x):
        return self.layer(x).squeeze(1)


class FromOne(nn.Module):
    """Subtracts integers from a fraction."""

    def forward(self, x):
        return 1.5 - x.long()


class AllTrue(nn.Module):
    def forward(self, x):
        return x * torch.ops.aten._is_all_true(x > -100)


class Quantized(nn.Module):
    """Simulates quantization of what it is given, by one scale or by one for each channel."""

    def __init__(self, per_channel):
        super().__init__()
        count = 3 if per_channel else 1
        self.per_channel = per_channel
        self.scale = nn.Buffer(torch.linspace(0.01, 0.03, count))
        self.zero = nn.Buffer(torch.arange(count, dtype=torch.int32))

    def forward(self, x):
        if self.per_channel:
            args = (self.scale, self.zero, 1, -127, 127)
            return torch.fake_quantize_per_channel_affine(x, *args)
        x = torch.fake_quantize_per_tensor_affine(x, self.scale, self.zero, 0, 255)
        return torch.fake_quantize_per_tensor_affine(x - 1, 0.02, 5, 0, 255)


NETWORKS = {
    "five dimensions": (Attention(2, 3), (6, 5, 8)),
    "five dimensions, masked": (Attention(2, 3, mask=True), (6, 5, 8)),
    "six dimensions, causal": (Attention(2, 3, 1, causal=True), (6, 5, 8)),
    "three dimensions": (Attention(), (1, 5, 8)),
    "euclidean distances": (Distances(2.0), (2, 3, 4)),
    "other distances": (Distances(3.0), (2, 3, 4)),
    "squeeze of a longer axis": (Squeezed(), (2, 3, 4)),
    "integers from a fraction": (FromOne(), (2, 3)),
    "all true": (AllTrue(), (2, 3)),
    "quantized": (Quantized(False), (2, 3, 4)),
    "quantized by channel": (Quantized(True), (2, 3, 4)),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_what_the_exporter_lacks_is_made_of_what_it_has(name, tmp_path):
    network, shape = NETWORKS[name]
    assert export_onnx(network, Inputs((torch.randn(shape),), {}), tmp_path / "x.onnx") <= (
        10 * ROUNDING_SINGLE
    )


def test_products_of_experts(tmp_path):
    """Experts get different numbers of rows, some none."""
    row = get("hf_mixtral")
    inputs = Inputs((), dict(row.inputs()))
    assert export_onnx(row.build(), inputs, tmp_path / "x.onnx") <= 10 * ROUNDING_SINGLE


@pytest.mark.parametrize("buffer", [False, True])
def test_numbers_that_are_nearly_zero_or_one(buffer, tmp_path):
    """The exporter takes 1e-12 for zero, and then divides by zero where everything is removed."""

    class Shares(nn.Sequential):
        def __init__(self, *layers):
            super().__init__(*layers)
            if buffer:
                self.register_buffer("epsilon", torch.tensor(1e-12))
            else:
                self.epsilon = 1e-12

        def forward(self, x):
            hidden = x
            for layer in self.children():
                hidden = layer(hidden)
            hidden = hidden.relu()
            return 1.000001 * (hidden / (hidden.sum(-1, keepdim=True) + self.epsilon))

    net = Shares(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 4))
    result = ap.prune(net, torch.randn(2, 4), channels=0.5)
    with torch.no_grad():
        result.model[2].weight.zero_()
        result.model[2].bias.fill_(-1.0)
    session = onnxruntime.InferenceSession(str(result.save(tmp_path / "shares.onnx")))
    (got,) = session.run(None, {session.get_inputs()[0].name: np.ones((2, 4), np.float32)})
    np.testing.assert_array_equal(got, np.zeros((2, 4), np.float32))


def test_a_network_that_draws_numbers_has_nothing_to_be_compared_with(tmp_path):
    class Noisy(nn.Sequential):
        def forward(self, x):
            hidden = super().forward(x)
            return hidden + torch.randn_like(hidden)

    net = Noisy(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 4))
    result = ap.sparsify(net, torch.randn(2, 4), format="block 4x1")
    with pytest.raises(ap.NotEqualError, match="draws random numbers"):
        result.save(tmp_path / "noisy.onnx")
    assert not os.listdir(tmp_path)


def test_tensors_that_need_a_file_of_their_own(tmp_path, monkeypatch):
    monkeypatch.setattr(onnx_large, "PROTOBUF_LIMIT", 0)
    net, x = nn.Sequential(nn.Linear(8, 64), nn.ReLU(), nn.Linear(64, 8)), torch.randn(2, 8)
    result = ap.prune(net, x, channels=0.5)
    path = result.save(tmp_path / "small.onnx")
    assert sorted(os.listdir(tmp_path)) == ["small.onnx", "small.onnx.data"]
    session = onnxruntime.InferenceSession(str(path))
    (got,) = session.run(None, {session.get_inputs()[0].name: x.numpy()})
    assert difference(result.model(x), torch.from_numpy(got)) <= ROUNDING_SINGLE


class Varied(nn.Module):
    """Returns more than tensors."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(8, 16), nn.Linear(16, 4)

    def forward(self, x):
        return {"steps": 3, "y": self.b(torch.relu(self.a(x))), "name": "net", "none": None}


def test_why_an_export_failed_is_said_in_one_line(tmp_path):
    result = ap.prune(Varied(), torch.randn(2, 8), channels=0.5)
    with pytest.raises(ap.AutopruneError, match=r"failed: .*node return \(3, linear_1, 'net'"):
        result.save(tmp_path / "small.onnx")


def test_precisions_that_the_runtime_lacks(tmp_path):
    model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 4)).bfloat16()
    result = ap.prune(model, torch.randn(2, 8).bfloat16(), channels=0.5)
    with pytest.raises(ap.AutopruneError, match="NOT_IMPLEMENTED") as raised:
        result.save(tmp_path / "small.onnx")
    assert "model.float()" in raised.value.hint
