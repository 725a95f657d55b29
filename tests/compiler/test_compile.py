"""From a pruned network to a file that the runtime runs."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

pytest.importorskip("tvm", reason="needs apache-tvm")

import onnx
import torch
from torch import nn

import autoprune as ap
from autoprune.cli.main import main
from autoprune.frameworks.onnx import large as onnx_large
from autoprune.passes.lower.measure import Speedup
from autoprune.runtime import DenseNotice, Session
from autoprune.runtime.cpu import this_cpu
from tests.tolerance import ROUNDING_SINGLE
from tests.zoo.shim import ensure_torchvision


def sparse_network():
    """Linear layers of which one weight in five is there, in blocks of 32 outputs."""
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Linear(64, 256), nn.GELU(), nn.Linear(256, 256), nn.ReLU(), nn.Linear(256, 10)
    )
    with torch.no_grad():
        for layer in (model[0], model[2]):
            blocks = torch.rand(layer.out_features // 32, layer.in_features) < 0.2
            layer.weight.mul_(blocks.repeat_interleave(32, dim=0).float())
    return model.eval()


@pytest.fixture(scope="module")
def pruned():
    """The network with some units less, which keeps the blocks of those that stay."""
    return ap.prune(sparse_network(), torch.randn(4, 64), channels=0.75, multiple_of=64)


@pytest.fixture(scope="module")
def compiled(pruned):
    return ap.compile(pruned, measure=False)


def test_a_result_becomes_an_artifact(pruned, compiled, tmp_path):
    assert "2 of 3 products run on sparse kernels" in str(compiled)
    digest = compiled.save(tmp_path / "model.apz")
    session = Session(tmp_path / "model.apz", digest=digest)
    assert session.backend.startswith("native x86-64")
    session.verify()
    x = torch.randn(4, 64)
    (name,) = (spec.name for spec in session.inputs)
    (got,) = session.run({name: x.numpy()}).values()
    expected = pruned.model(x).detach().numpy()
    np.testing.assert_allclose(got, expected, rtol=0, atol=ROUNDING_SINGLE)
    # Without trust the dense network runs.
    with pytest.warns(DenseNotice):
        dense = Session(tmp_path / "model.apz")
    (again,) = dense.run({name: x.numpy()}).values()
    np.testing.assert_allclose(again, expected, rtol=0, atol=ROUNDING_SINGLE)


def test_equal_networks_give_equal_files(pruned, tmp_path, monkeypatch):
    """Whether the library is built anew or found in the cache."""
    made = []
    for cache in ("first", "second", "second"):
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / cache))
        ap.compile(pruned, measure=False).save(tmp_path / "model.apz")
        made.append((tmp_path / "model.apz").read_bytes())
    assert made[0] == made[1] == made[2]


def test_a_network_without_zeros_stays_dense(tmp_path):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 10)).eval()
    result = ap.prune(model, torch.randn(2, 64), channels=0.5)
    result.save(tmp_path / "dense.onnx")
    compiled = ap.compile(tmp_path / "dense.onnx")
    assert "0 of 2 products" in str(compiled)
    assert compiled.contents.model is None
    digest = compiled.save(tmp_path / "model.apz")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Session(tmp_path / "model.apz", digest=digest).verify()


def large_network(columns=1):
    """Linear layers of which one weight in ten is there, in blocks of 32 outputs."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(512, 1024), nn.ReLU(), nn.Linear(1024, 512)).eval()
    with torch.no_grad():
        for layer in (model[0], model[2]):
            blocks = torch.rand(layer.out_features // 32, layer.in_features // columns) < 0.1
            kept = blocks.repeat_interleave(32, dim=0).repeat_interleave(columns, dim=1)
            layer.weight.mul_(kept.float())
    return model


def test_a_module_is_measured():
    """Nine of ten weights less is faster on any processor, even a busy one."""
    compiled = ap.compile(large_network(), torch.randn(8, 512))
    gains = [layer.speedup for layer in compiled.layers]
    assert all(gain is not None and gain > 1.2 for gain in gains)
    assert "10% of the weights stored" in str(compiled)


@pytest.mark.parametrize("gain", [1.1, 1.3])
def test_what_gains_too_little_stays_dense(gain, pruned, monkeypatch):
    monkeypatch.setattr(
        "autoprune.passes.lower.compile.speedup", lambda *_: Speedup(gain, 1.0, 2.0)
    )
    compiled = ap.compile(pruned)
    assert [bool(layer.rows) for layer in compiled.layers] == [gain > 1.2] * 2 + [False]
    assert (compiled.contents.model is None) == (gain < 1.2)
    assert ("would be 1.10x (1.00 to 2.00) as fast" in str(compiled)) == (gain < 1.2)
    assert "on input: float32[4,64]" in str(compiled)


def test_products_of_integers(tmp_path):
    if "avx512_vnni" not in this_cpu().features:
        pytest.skip("this processor has no dot products of 8-bit integers")
    model, x = large_network(columns=4), torch.randn(8, 512)
    compiled = ap.compile(model, x, int8=True, measure=False)
    assert [layer.int8 for layer in compiled.layers] == [True, True]
    assert 0 < compiled.error < 0.02
    assert f"differ from float32 by {compiled.error:.1%}" in str(compiled)
    assert "in float32" not in str(compiled)
    session = Session(tmp_path / "model.apz", digest=compiled.save(tmp_path / "model.apz"))
    session.verify()
    ((got,),) = [session.run({spec.name: x.numpy() for spec in session.inputs}).values()]
    expected = model(x).detach().numpy()
    assert np.abs(got - expected).max() <= 1.01 * compiled.error * np.abs(expected).max()


def test_integers_that_nothing_is_made_of(pruned):
    """Blocks of one input are not for 8 bits, which has to be said."""
    compiled = ap.compile(pruned, int8=True, measure=False)
    assert not any(layer.int8 for layer in compiled.layers)
    assert "2 of them in float32: 8 bits take zeros in blocks of 4 inputs" in str(compiled)


def convolutional_network():
    """Convolutions of which one block of four outputs and inputs in five is there."""
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 32, 3, 2, 1), nn.ReLU(),
        nn.Conv2d(32, 64, 1), nn.ReLU6(), nn.Conv2d(64, 64, 3, padding=1, groups=64), nn.SiLU(),
        nn.Conv2d(64, 32, 3, 2, 1), nn.Hardswish(), nn.Conv2d(32, 64, 1),
    )  # fmt: skip
    with torch.no_grad():
        for layer in (model[2], model[6], model[8]):
            outputs, inputs, *kernel = layer.weight.shape
            blocks = (torch.rand(outputs // 4, inputs // 4, *kernel) < 0.2).float()
            layer.weight.mul_(blocks.repeat_interleave(4, 0).repeat_interleave(4, 1))
    return model.eval()


def test_convolutions_hand_bytes_to_each_other(tmp_path):
    if "avx512_vnni" not in this_cpu().features:
        pytest.skip("this processor has no dot products of 8-bit integers")
    model, x = convolutional_network(), torch.randn(2, 3, 21, 22)
    compiled = ap.compile(model, x, int8=True, calibration=[x, (2 * x,)], measure=False)
    nodes = [n.op_type for n in onnx.load_from_string(compiled.contents.model).graph.node]
    assert nodes == [
        "Quantize", *["QuantizedConv"] * 2, "QuantizedDepthwise", *["QuantizedConv"] * 2,
        "Dequantize",
    ]  # fmt: skip
    assert 0 < compiled.error < 0.05
    session = Session(tmp_path / "model.apz", digest=compiled.save(tmp_path / "model.apz"))
    session.verify()
    # Twice the numbers are in the range of the calibration data, four times are not.
    for factor, most in ((2, 0.05), (4, 0.6)):
        feed = {spec.name: factor * x.numpy() for spec in session.inputs}
        (got,) = session.run(feed).values()
        expected = model(factor * x).detach().numpy()
        assert np.abs(got - expected).max() <= most * np.abs(expected).max()
    rounded_then = ap.compile(model, x, int8=True, measure=False)
    nodes = [n.op_type for n in onnx.load_from_string(rounded_then.contents.model).graph.node]
    assert {"SparseConvInt8", "SparseConvDepthwiseInt8"} <= set(nodes)
    assert 0 < rounded_then.error < 0.05


class Pooled(nn.Module):
    """A dense convolution that reads images, and sparse ones, with pooling after each."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.stem = nn.Sequential(nn.Conv2d(3, 16, 7, 2, 3), nn.ReLU(), nn.MaxPool2d(3, 2, 1))
        self.first, self.second = (nn.Conv2d(16, 16, 3, padding=1) for _ in range(2))
        self.third = nn.Conv2d(16, 32, 3, padding=1)

    def forward(self, x):
        x = self.stem(x)
        x = torch.relu(self.second(torch.relu(self.first(x))) + x)
        x = self.third(nn.functional.max_pool2d(x, 2))
        return nn.functional.max_pool2d(x, (2, 1))


def test_pooling_between_convolutions_is_of_bytes():
    if "avx512_vnni" not in this_cpu().features:
        pytest.skip("this processor has no dot products of 8-bit integers")
    model, x = Pooled().eval(), torch.randn(2, 3, 41, 36)
    sparse = ap.sparsify(model, x, format=dict.fromkeys(("first", "second", "third"), "block 4x4"))
    compiled = ap.compile(sparse, int8=True, calibration=[x, 2 * x], measure=False)
    nodes = [n.op_type for n in onnx.load_from_string(compiled.contents.model).graph.node]
    assert nodes == [
        "Quantize", "QuantizedConv", "QuantizedMaxPool", "QuantizedConv", "QuantizedConv",
        "QuantizedMaxPool", "QuantizedConv", "Dequantize", "MaxPool",
    ]  # fmt: skip
    assert [layer.rows for layer in compiled.layers] == [4] * 4
    assert 0 < compiled.error < 0.05


def test_calibration_on_the_command_line(tmp_path, capsys, monkeypatch):
    if "avx512_vnni" not in this_cpu().features:
        pytest.skip("this processor has no dot products of 8-bit integers")
    monkeypatch.chdir(tmp_path)
    model, x = convolutional_network(), torch.randn(2, 3, 21, 22)
    program = torch.onnx.export(model, (x,), dynamo=True, verbose=False, input_names=["x"])
    program.save("sparse.onnx")
    for place in range(2):
        np.savez(f"sample{place}.npz", x=torch.randn(2, 3, 21, 22).numpy())
    command = ["compile", "sparse.onnx", "-o", "small.apz", "--no-measure"]
    files = ["--calibration", "sample0.npz", "sample1.npz"]
    assert main([*command, "--int8", *files]) == 0
    assert "8-bit blocks" in capsys.readouterr().out
    assert main([*command, *files]) == 1
    assert "is for 8-bit integers" in capsys.readouterr().err
    assert main([*command, "--int8", "--calibration", "no.npz"]) == 1
    assert "no.npz" in capsys.readouterr().err


def test_calibration_data_that_is_of_no_use():
    model, x = convolutional_network(), torch.randn(2, 3, 21, 22)
    with pytest.raises(ap.AutopruneError, match="is for 8-bit integers"):
        ap.compile(model, x, calibration=[x])
    with pytest.raises(ap.AutopruneError, match="calibration data is empty"):
        ap.compile(model, x, int8=True, calibration=[])
    with pytest.raises(ap.TraceError, match="wants shape"):
        ap.compile(model, x, int8=True, calibration=x)
    with pytest.raises(ap.NotEqualError, match=r"not finite(.|\n)*value "):
        ap.compile(model, x, int8=True, calibration=[x / 0])


def test_integers_that_are_too_coarse(monkeypatch):
    if "avx512_vnni" not in this_cpu().features:
        pytest.skip("this processor has no dot products of 8-bit integers")
    monkeypatch.setattr("autoprune.passes.lower.compile.INT8_LIMIT", 1e-4)
    with pytest.raises(ap.NotEqualError, match="too coarse for it"):
        ap.compile(large_network(columns=4), torch.randn(8, 512), int8=True, measure=False)


def test_integers_need_a_processor_for_them(pruned):
    with pytest.raises(ap.TargetError, match="x86-64-v3 has no dot products"):
        ap.compile(pruned, target="x86-64-v3", int8=True)


def test_a_module_needs_example_inputs():
    with pytest.raises(ap.TraceError, match="example inputs"):
        ap.compile(large_network())


@pytest.mark.zoo
def test_an_encoder_with_a_mask():
    """ONNX Runtime folds the constants of its mask, under names that must not be taken."""
    ensure_torchvision()
    pytest.importorskip("transformers", reason="builds the encoder")
    from transformers import BertConfig, BertModel

    config = BertConfig(
        hidden_size=64, num_hidden_layers=1, num_attention_heads=4, intermediate_size=128,
        vocab_size=50,
    )  # fmt: skip
    torch.manual_seed(0)
    x = {"input_ids": torch.arange(24).reshape(2, 12), "attention_mask": torch.ones(2, 12).long()}
    sparse = ap.sparsify(BertModel(config).eval(), x, sparsity=0.8)
    compiled = ap.compile(sparse, measure=False)
    assert sum(bool(layer.rows) for layer in compiled.layers) >= 6


def test_unknown_targets(pruned):
    with pytest.raises(ap.TargetError, match=r"no target 'z80'\n.*, or .* x86-64"):
        ap.compile(pruned, target="z80")


def test_models_too_large_for_an_artifact(pruned, monkeypatch):
    monkeypatch.setattr(onnx_large, "PROTOBUF_LIMIT", 0)
    with pytest.raises(ap.TargetError, match="more than 2 GB"):
        ap.compile(pruned)


def test_a_single_instruction_set(pruned, tmp_path):
    compiled = ap.compile(pruned, target="x86-64-v3", measure=False)
    assert [library.label for library in compiled.contents.libraries] == ["x86-64-v3"]
    digest = compiled.save(tmp_path / "model.apz")
    assert Session(tmp_path / "model.apz", digest=digest).backend == "native x86-64-v3"


def test_on_the_command_line(pruned, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    pruned.save("small.onnx")
    command = ["compile", "small.onnx", "-o", "small.apz", "--target", "x86-64-v3", "--no-measure"]
    assert main(command) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[0] == "2 of 3 products run on sparse kernels"
    assert main(said[-1].split()[1:]) == 0
    assert main(["compile", "small.onnx", "-o", "small.zip"]) == 1
    assert "artifacts end in .apz" in capsys.readouterr().err
    assert main(["compile", "small.onnx", "-o", "small.apz", "--target", "z80"]) == 1
    assert "there is no target 'z80'" in capsys.readouterr().err


def test_sizes_that_a_model_leaves_open_are_given_on_the_command_line(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    sparse = ap.sparsify(sparse_network(), torch.zeros(2, 64), dynamic_shapes="batch")
    sparse.save("sparse.onnx")
    command = ["compile", "sparse.onnx", "-o", "small.apz", "--no-measure"]
    assert main([*command, "--input", "7x64"]) == 0
    given = Session("small.apz", trust_native=True).example_inputs()
    assert [array.shape for array in given.values()] == [(7, 64)]
    assert main([*command, "--input", "7x63"]) == 1
