"""Sparse linear layers in torch models, on emulated kernels, and on a GPU where there is one."""

from __future__ import annotations

import copy
import subprocess
import sys

import numpy as np
import pytest

pytest.importorskip("tvm", reason="needs apache-tvm")

import torch
from torch import nn

import autoprune as ap
from autoprune.passes.kernels.cuda.build import build_cuda, cuda_source, find_nvcc
from autoprune.passes.kernels.cuda.kernels import ROWS, Tiled, family
from autoprune.passes.kernels.cuda.library import Library
from autoprune.passes.kernels.cuda.linear import SparseLinear
from autoprune.passes.kernels.cuda.models import kernels_of, sparse_linears, use_library
from tests.kernels.cuda.emulated import emulated
from tests.tolerance import ROUNDING_HALF, ROUNDING_SINGLE


def network():
    """Two sparse layers, one of them used twice, and one that stays dense."""
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Linear(96, 128), nn.GELU(), nn.Linear(128, 128), nn.ReLU(), nn.Linear(128, 10)
    )
    model.append(nn.Identity()).insert(3, model[2])
    with torch.no_grad():
        for layer in (model[0], model[2]):
            blocks = torch.rand(layer.out_features // 32, layer.in_features) < 0.2
            layer.weight.mul_(blocks.repeat_interleave(32, dim=0).float())
    return model.eval()


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    kernels = (*kernels_of(sparse_linears(network())), *family(8, "relu", residual=True))
    return emulated(kernels, tmp_path_factory.mktemp("linear"))


@pytest.mark.parametrize("shape", [(96,), (1, 96), (2, 9, 96), (70, 96), (0, 96)])
@torch.no_grad()
def test_a_model_computes_the_same(shape, library):
    model = network()
    fast = use_library(sparse_linears(model), library.path)
    x = torch.randn(shape)
    torch.testing.assert_close(fast(x), model(x), rtol=0, atol=ROUNDING_SINGLE)


def test_which_layers_become_sparse():
    model = network()
    fast = sparse_linears(model)
    assert [i for i, layer in enumerate(fast) if isinstance(layer, SparseLinear)] == [0, 2, 3]
    assert fast[2] is fast[3]
    assert fast[0].rows == 32
    assert fast[0].stored < 0.3
    assert "rows=32" in repr(fast[0])
    # The model is as it was.
    assert isinstance(model[0], nn.Linear)


def test_single_weights_become_sparse():
    model = nn.Sequential(nn.Linear(64, 64))
    with torch.no_grad():
        model[0].weight.mul_((torch.rand(64, 64) < 0.2).float())
    assert sparse_linears(model)[0].rows == 1


def test_a_layer_with_a_residual(library):
    torch.manual_seed(1)
    weight = torch.randn(40, 24) * (torch.rand(5, 24) < 0.4).repeat_interleave(8, 0)
    bias = torch.randn(40)
    layer = SparseLinear(weight, bias, rows=8, activation="relu", residual=True)
    layer.library = library
    x, added = torch.randn(3, 5, 24), torch.randn(3, 5, 40)
    expected = torch.relu(nn.functional.linear(x, weight, bias) + added)
    # A tensor that is not contiguous is read as what it is.
    spread = x.transpose(0, 1).contiguous().transpose(0, 1)
    torch.testing.assert_close(layer(spread, added), expected, rtol=0, atol=ROUNDING_SINGLE)
    with pytest.raises(ValueError, match="no tensor to add"):
        layer(x)
    with pytest.raises(ValueError, match="cannot be added"):
        layer(x, added[:1])


def test_many_positions_are_computed_in_parts(library, monkeypatch):
    model = network()
    fast = use_library(sparse_linears(model), library.path)
    x = torch.randn(50, 96)
    whole = fast(x)
    monkeypatch.setattr("autoprune.passes.kernels.cuda.linear.LIMIT", 128 * 23)
    torch.testing.assert_close(fast(x), whole, rtol=0, atol=ROUNDING_SINGLE)


def test_a_copy_and_its_state(library):
    fast = use_library(sparse_linears(network()), library.path)
    other = use_library(sparse_linears(network()), library.path)
    with torch.no_grad():
        other[0].values.zero_()
    other.load_state_dict(fast.state_dict())
    x = torch.randn(2, 96)
    torch.testing.assert_close(copy.deepcopy(other)(x), fast(x), rtol=0, atol=0)


@torch.no_grad()
def test_numbers_keep_their_types(tmp_path):
    """`half()` is for the rest of the model: kernels read a bias of 32 bits."""
    torch.manual_seed(2)
    model = nn.Sequential(nn.LayerNorm(64), nn.Linear(64, 128))
    model[1].weight.mul_((torch.rand(4, 64) < 0.3).repeat_interleave(32, 0).float())
    fast = sparse_linears(model, dtype=torch.float16)
    use_library(fast, emulated(kernels_of(fast), tmp_path).path).half()
    assert fast[1].bias.dtype == torch.float32
    x = torch.randn(5, 64)
    expected = model(x)
    gap = (fast(x.half()).float() - expected).abs().max()
    assert gap <= 3 * ROUNDING_HALF * expected.abs().max()
    assert fast.double()[1].values.dtype == torch.float16
    fast[1].bias = fast[1].bias.half()
    with pytest.raises(ValueError, match="as they were"):
        fast[1](x.half())


@torch.no_grad()
def test_within_a_compiled_model(library):
    fast = use_library(sparse_linears(network()), library.path)
    x = torch.randn(3, 96)
    torch.testing.assert_close(torch.compile(fast, backend="eager")(x), fast(x), rtol=0, atol=0)


def test_running_needs_no_tvm():
    check = "import sys, autoprune.passes.kernels.cuda.models; assert 'tvm' not in sys.modules"
    subprocess.run([sys.executable, "-c", check], check=True)


def test_layers_with_hooks_stay():
    model = network()
    model[2].register_forward_hook(lambda module, inputs, output: None)
    fast = sparse_linears(model)
    assert [i for i, layer in enumerate(fast) if isinstance(layer, SparseLinear)] == [0]


def test_what_is_refused(library, tmp_path):
    fast = sparse_linears(network())
    with pytest.raises(ap.TargetError, match="no kernels yet"):
        fast(torch.randn(1, 96))
    use_library(fast, library.path)
    for x, message in [
        (torch.randn(1, 95), "96 inputs are expected"),
        (torch.randn(1, 96).double(), "numbers are torch.float64"),
        (torch.randn(1, 96, requires_grad=True), "no gradients"),
        (torch.randn(1, 96, device="meta"), "a tensor is on meta"),
    ]:
        with pytest.raises(ValueError, match=message):
            fast(x)
    with pytest.raises(ap.TargetError, match="no kernel split_64x1_float32"):
        use_library(sparse_linears(network(), rows=64), library.path)
    (tmp_path / "text.so").write_text("nothing")
    with pytest.raises(ap.TargetError, match="is no library of kernels"):
        use_library(fast, tmp_path / "text.so")
    with pytest.raises(ap.TargetError, match="enough zeros"):
        sparse_linears(nn.Sequential(nn.Linear(100, 100)))
    with pytest.raises(ap.TargetError, match="no kernels for bfloat16"):
        sparse_linears(network(), dtype=torch.bfloat16)


def test_artifacts_are_not_for_gpus():
    with pytest.raises(ap.TargetError, match=r"autoprune\.passes\.kernels\.cuda"):
        ap.compile(network(), torch.randn(1, 96), target="cuda")


def test_no_compiler(tmp_path, monkeypatch):
    monkeypatch.setattr("shutil.which", lambda *_, **__: None)
    with pytest.raises(ap.TargetError, match="nvcc is not installed"):
        build_cuda(family(8), tmp_path / "kernels.so")
    assert not list(tmp_path.iterdir())


def with_nvcc():
    try:
        return find_nvcc()
    except ap.TargetError:
        pytest.skip("nvcc is not installed, which compiles kernels for GPUs")


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_kernels_for_gpus_keep_their_numbers_in_registers(dtype, tmp_path):
    nvcc = with_nvcc()
    kernels = [k for rows in ROWS for k in family(rows, "gelu", residual=True, dtype=dtype)]
    source = tmp_path / "kernels.cu"
    source.write_text(cuda_source(kernels))
    command = [nvcc, "-arch=sm_80", "-cubin", "-w", "-Xptxas", "-v", source, "-o", tmp_path / "k"]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stderr
    assert said.count("0 bytes stack frame, 0 bytes spill stores") == len(kernels)


def test_a_library_for_gpus(tmp_path):
    with_nvcc()
    path = tmp_path / "kernels.so"
    build_cuda(family(8), path)
    library = Library(path)
    assert library.device == "cuda"
    assert Tiled(8) in library
    assert Tiled(16) not in library
    if not torch.cuda.is_available():
        with pytest.raises(ap.TargetError, match="the GPU does not run tiled_8x64"):
            library.launch(Tiled(8), [0] * 7, (1, 1, 1, 1, 1), 0)


def test_nvcc_fails(tmp_path):
    with_nvcc()
    with pytest.raises(ap.TargetError, match="nvcc failed"):
        build_cuda(family(8), tmp_path / "kernels.so", arch="sm_20")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@torch.no_grad()
def test_on_a_gpu(dtype, tmp_path):
    if not torch.cuda.is_available():
        pytest.skip("there is no GPU")
    with_nvcc()
    rng = np.random.default_rng(0)
    layers = []
    for rows in ROWS:
        mask = (torch.rand(-(-300 // rows), 500) < 0.3).repeat_interleave(rows, 0)[:300]
        weight = torch.from_numpy(rng.standard_normal((300, 500))) * mask
        layers.append((weight, SparseLinear(weight, torch.randn(300), rows=rows, dtype=dtype)))
    path = tmp_path / "kernels.so"
    build_cuda(kernels_of(nn.ModuleList(layer for _, layer in layers)), path)
    for weight, layer in layers:
        use_library(layer.cuda(), path)
        for positions in (1, 3, 8, 17, 64, 200):
            x = torch.randn(positions, 500, device="cuda", dtype=dtype)
            bias = layer.bias.reshape(-1)[:300].double()
            expected = x.double() @ weight.to("cuda", dtype).double().T + bias
            level = ROUNDING_SINGLE if dtype == torch.float32 else ROUNDING_HALF
            gap = (layer(x).double() - expected).abs().max()
            assert gap <= level * expected.abs().max()
