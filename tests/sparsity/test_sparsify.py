"""A trained network becomes sparse at once."""

from __future__ import annotations

import copy
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from torch import nn

import autoprune as ap
from autoprune.passes.sparsify.registry import parse_format
from tests.learners.training import same, state
from tests.sparsify.formats import FREE, NAMES
from tests.sparsity.networks import Attention, Convolutional, mlp
from tests.tolerance import DIFFERENT, ROUNDING_SINGLE

LEARNED = 0.9
"""More digits than a network recognizes that has lost nine of ten weights and not trained."""
IMAGES = torch.randn(4, 3, 16, 16, generator=torch.Generator().manual_seed(0))
TOKENS = torch.arange(24).reshape(2, 12)


def formats(result):
    return {row.name: row.format for row in result.report.rows}


def assert_sparse(result):
    """Zeros are where the masks say, and masks are of the formats that the report says."""
    parameters = dict(result.model.named_parameters(remove_duplicate=False))
    for row in result.report.rows:
        parameter, mask = parameters[row.name], result.masks[row.name]
        assert mask.shape == parameter.shape
        assert not parameter[~mask].any()
        assert parameter[mask].all()
        format = parse_format(row.format)
        assert format.fits(mask.movedim(1, -1).reshape(row.shape).numpy()) is None
        assert row.sparsity == pytest.approx(1 - mask.float().mean().item(), abs=DIFFERENT)


@pytest.mark.parametrize("calibrated", [False, True])
@pytest.mark.parametrize("name", NAMES)
def test_every_format(name, calibrated):
    model, x = mlp()
    before = state(model)
    result = ap.sparsify(
        model,
        format=name,
        sparsity=0.75 if name in FREE else None,
        calibration=[x] if calibrated else None,
        ignore="4",
    )
    assert same(state(model), before)
    assert_sparse(result)
    assert set(formats(result).values()) == {name}
    if name in FREE:
        assert result.report.sparsity == pytest.approx(0.75, abs=0.01)


@pytest.mark.parametrize("name", ["block 32x1", "2:4", "fan-in 16", "csr"])
def test_correction_is_better_than_magnitude(name):
    model, x = mlp()
    expected = model(x)

    def error(calibration):
        result = ap.sparsify(model, format=name, calibration=calibration)
        return (result.model(x) - expected).square().sum() / expected.square().sum()

    assert error([x]) < 0.9 * error(None)


def test_the_error_in_the_report_is_that_of_the_layer():
    model, x = mlp()
    result = ap.sparsify(model, format={"0": "2:4", "2": "block 16x1"}, calibration=x.split(64))
    inputs = x
    for i, row in zip((0, 2), result.report.rows, strict=True):
        # The second layer is corrected on what the sparse first one gives.
        expected = inputs @ model[i].weight.T
        error = (inputs @ result.model[i].weight.T - expected).square().sum()
        assert row.error == pytest.approx((error / expected.square().sum()).item(), rel=1e-3)
        inputs = result.model[: i + 2](x)


def test_the_blocks_of_kernels_are_chosen_where_they_fit():
    result = ap.sparsify(Convolutional(), IMAGES, calibration=[IMAGES])
    assert formats(result) == {
        "expand.weight": "block 8x1",
        "project.weight": "block 8x1",
        "head.weight": "block 32x1",
    }
    assert_sparse(result)
    assert result.report.reasons == {
        "stem.weight": "it reads 3 channels, as of an image",
        "depth.weight": "it is that of a grouped convolution",
    }
    table = str(result.report)
    assert "head.weight         128      32  block 32x1  79.7%" in table
    assert "stem.weight: it reads 3 channels, as of an image" in table


def test_small_and_odd_layers_stay_dense():
    model = nn.Sequential(nn.Linear(64, 128), nn.Linear(128, 20), nn.Linear(20, 32))
    assert ap.sparsify(model).report.reasons == {
        "1.weight": "block 8x1 does not divide its 20 x 128",
        "2.weight": "it has 640 weights, fewer than 4096",
    }


def test_convolutions_become_sparse_unless_there_are_no_kernels_for_them():
    model = nn.Sequential(
        nn.Conv2d(16, 32, 3), nn.Conv2d(32, 36, (1, 5)), nn.Flatten(2), nn.Conv1d(36, 64, 3),
        nn.Flatten(), nn.Linear(64, 80),
    )  # fmt: skip
    result = ap.sparsify(model)
    names = {"0.weight": "block 8x1", "1.weight": "block 4x1", "5.weight": "block 16x1"}
    assert formats(result) == names
    assert result.report.reasons == {"3.weight": "it is that of a 1-dimensional convolution"}
    for eight_bits in (result, ap.sparsify(model, format="auto int8")):
        assert_sparse(eight_bits)
    names = {"0.weight": "block 4x4", "1.weight": "block 4x4", "5.weight": "block 16x4"}
    assert formats(eight_bits) == names
    assert formats(ap.sparsify(model, format={"0": "auto int8", "5": "auto"})) == {
        "0.weight": "block 4x4", "5.weight": "block 16x1",
    }  # fmt: skip


@pytest.mark.parametrize("name", ["block 4x4", "2:4"])
def test_inputs_of_a_convolution_are_those_at_a_tap(name):
    """Kernels of 8-bit integers multiply four input channels at once."""
    model = nn.Sequential(nn.Conv2d(8, 12, (3, 2)))
    result = ap.sparsify(model, format={"0": name})
    mask = result.masks["0.weight"]
    assert mask.shape == (12, 8, 3, 2)
    assert torch.equal(mask, result.model[0].weight != 0)
    blocks = mask.reshape(3, 4, 2, 4, 3, 2)
    if name == "2:4":
        assert (blocks.sum(3) == 2).all()
    else:
        assert torch.equal(blocks.all(3).all(1), blocks.any(3).any(1))


def test_any_layer_whose_name_is_given():
    named = {"stem": "block 4x1", "depth": "csr", "*": "2:4"}
    result = ap.sparsify(Convolutional(), format=named, sparsity=0.5, calibration=[IMAGES])
    assert formats(result) == {
        "stem.weight": "block 4x1",
        "expand.weight": "2:4",
        "depth.weight": "csr",
        "project.weight": "2:4",
        "head.weight": "2:4",
    }
    assert_sparse(result)
    errors = {row.name: row.error for row in result.report.rows}
    # Outputs of a grouped convolution do not read the same inputs.
    assert errors.pop("depth.weight") is None
    assert all(error > 0 for error in errors.values())


def test_shared_and_raw_weights_only_if_named():
    result = ap.sparsify(Attention(), format="block 32x1", calibration=[TOKENS])
    assert list(formats(result)) == ["attend.out_proj.weight", "up.weight", "frozen.weight"]
    assert result.report.reasons == {"head.weight": "another layer uses it too"}
    # The attention does not call its output layer: it multiplies by its weight itself.
    assert all(row.error > 0 for row in result.report.rows)
    named = ap.sparsify(Attention(), format={"*.in_proj_weight": "2:4", "*": "csr"}, ignore=["up"])
    assert formats(named) == {
        "attend.out_proj.weight": "csr",
        "frozen.weight": "csr",
        "head.weight": "csr",
        "attend.in_proj_weight": "2:4",
    }
    assert_sparse(named)
    assert named.model.head.weight is named.model.table.weight
    # Under any of its names.
    other = ap.sparsify(Attention(), format={"*": "csr"}, ignore="table")
    assert "head.weight" not in formats(other)


@pytest.mark.parametrize("keep_class", [True, False])
def test_first_smaller_then_sparse(keep_class):
    model, x = mlp()
    options = ap.Options(keep_class=keep_class)
    small = ap.prune(model, x[:4], channels=0.5, multiple_of=32, options=options)
    before = state(small.model)
    result = ap.sparsify(small, calibration=[x[:4]], format="block 32x1", ignore="4")
    assert same(state(small.model), before)
    assert [row.shape for row in result.report.rows] == [(64, 64), (64, 64)]
    assert all(row.error > 0 for row in result.report.rows)
    assert_sparse(result)


def test_weights_and_plan_come_back(tmp_path):
    model, x = mlp()
    small = ap.prune(model, x[:4], channels=0.5, multiple_of=32)
    result = ap.sparsify(small, format="2:4")
    again = ap.load(model, result.save(tmp_path / "sparse.safetensors"))
    assert same(state(again), state(result.model))


def test_onnx_computes_the_same(tmp_path):
    model, x = mlp()
    result = ap.sparsify(model, x[:4], format="block 16x1", ignore="4")
    session = onnxruntime.InferenceSession(result.save(tmp_path / "sparse.onnx"))
    (got,) = session.run(None, {session.get_inputs()[0].name: x[:4].numpy()})
    np.testing.assert_allclose(got, result.model(x[:4]).detach(), rtol=0, atol=ROUNDING_SINGLE)
    with pytest.raises(ap.AutopruneError, match="on example inputs"):
        ap.sparsify(model, format="2:4").save(tmp_path / "other.onnx")
    with pytest.raises(ap.AutopruneError, match=r"cannot save as \.bin"):
        result.save(tmp_path / "sparse.bin")


def test_the_size_of_batches_may_vary(tmp_path):
    model, x = mlp()
    result = ap.sparsify(model, x[:4], format="2:4", dynamic_shapes="batch")
    session = onnxruntime.InferenceSession(result.save(tmp_path / "sparse.onnx"))
    (got,) = session.run(None, {session.get_inputs()[0].name: x[:7].numpy()})
    np.testing.assert_allclose(got, result.model(x[:7]).detach(), rtol=0, atol=ROUNDING_SINGLE)


def test_compiled_the_layers_are_sparse(tmp_path):
    pytest.importorskip("tvm", reason="needs apache-tvm")
    model, x = mlp()
    small = ap.prune(model, x[:4], channels=0.5, multiple_of=32)
    result = ap.sparsify(small, sparsity=0.9, calibration=[x])
    assert [row.format for row in result.report.rows] == ["block 32x1"] * 2
    for source in (result, result.save(tmp_path / "sparse.onnx")):
        # What is faster here is not the question.
        compiled = ap.compile(source, measure=False)
        sparse = [layer for layer in compiled.layers if layer.rows]
        assert [(layer.outputs, layer.inputs) for layer in sparse] == [(64, 64), (64, 64)]
        assert all(layer.stored == pytest.approx(0.1, abs=0.01) for layer in sparse)


def test_sparsity_is_distributed():
    model, _ = mlp()
    with torch.no_grad():
        model[0].weight[:, ::2] = 0
    shares = {}
    for distribution in ("uniform", "erk", "global"):
        result = ap.sparsify(model, format="csr", sparsity=0.6, distribution=distribution)
        assert result.report.sparsity == pytest.approx(0.6, abs=1e-3)
        shares[distribution] = [row.sparsity for row in result.report.rows]
    assert max(shares["uniform"]) - min(shares["uniform"]) < 0.01
    assert shares["erk"][2] < shares["erk"][0] < shares["erk"][1]
    assert shares["global"][0] > shares["uniform"][0] + 0.05


def test_criteria():
    model, _ = mlp()
    first = ap.sparsify(model, format="block 4x1", criterion="l1")
    other = ap.sparsify(model, format="block 4x1", criterion=lambda w: 1 / (1 + np.abs(w)))
    mask, opposite = first.masks["2.weight"], other.masks["2.weight"]
    assert model[2].weight[mask].abs().mean() > 1.5 * model[2].weight[opposite].abs().mean()
    with pytest.raises(ap.BudgetError, match="no criterion 'l3'"):
        ap.sparsify(model, criterion="l3")


def test_half_precision_stays():
    model, x = mlp()
    result = ap.sparsify(
        model.bfloat16(), format="2:4", calibration=[x.bfloat16()], ignore=["4", "0"]
    )
    assert result.model[2].weight.dtype == torch.bfloat16
    assert_sparse(result)


def test_an_onnx_model_as_a_module(tmp_path):
    model, x = mlp()
    ap.sparsify(model, x[:4], format="csr", sparsity=0.0).save(tmp_path / "dense.onnx")
    module = ap.to_torch(tmp_path / "dense.onnx")
    result = ap.sparsify(module, x[:4], format="block 16x1", ignore="4", calibration=[x[:4]])
    assert len(result.report.rows) == 2
    assert_sparse(result)
    result.save(tmp_path / "sparse.onnx")


BAD = [
    ({"format": "blocks"}, ap.FormatError, "there is no sparse format 'blocks'"),
    ({"format": 7}, ap.FormatError, "7 is no sparse format"),
    ({"format": "block 512x1"}, ap.FormatError, "no layer for the format 'block 512x1'.*128 x 64"),
    ({"format": {"nine": "csr"}}, ap.AutopruneError, "format='nine' matches no module"),
    ({"format": {"0.bias": "csr"}}, ap.FormatError, "no layer for the format"),
    ({"ignore": "nine"}, ap.AutopruneError, "ignore='nine' matches no module"),
    ({"ignore": "*"}, ap.FormatError, "no layer for the format 'auto'"),
    ({"sparsity": 1.0}, ap.BudgetError, "sparsity=1.0 is not a fraction"),
    ({"sparsity": 80}, ap.BudgetError, "sparsity=80 is not a fraction"),
    ({"sparsity": float("nan")}, ap.BudgetError, "is not a fraction"),
    ({"sparsity": 0.5, "format": "2:4"}, ap.BudgetError, "says itself how much is kept"),
    ({"distribution": "even"}, ap.BudgetError, "no distribution 'even'"),
    ({"calibration": []}, ap.AutopruneError, "calibration data is empty"),
    ({"calibration": torch.zeros(2, 64)}, ap.AutopruneError, "not a tensor"),
    ({"calibration": [(torch.zeros(2, 64), torch.zeros(2))]}, ap.AutopruneError, "without labels"),
    ({"calibration": [torch.full((2, 64), torch.nan)]}, ap.FormatError, "not finite"),
    ({"rearrange": True}, ap.TraceError, "needs example inputs"),
]


@pytest.mark.parametrize(("settings", "error", "message"), BAD)
def test_bad_input(settings, error, message):
    model, _ = mlp()
    before = state(model)
    with pytest.raises(error, match=message):
        ap.sparsify(model, **settings)
    assert same(state(model), before)


def test_weights_that_are_not_finite():
    model, _ = mlp()
    with torch.no_grad():
        model[2].weight[3, 4] = torch.inf
    with pytest.raises(ap.GraphError, match=r"1 of 16384 weights .*\n.*2\.weight"):
        ap.sparsify(model)


def test_what_is_no_module():
    with pytest.raises(ap.TraceError, match="got list"):
        ap.sparsify([])
    with pytest.raises(ap.TraceError, match="cannot be read"):
        ap.sparsify("model.onnx")


def test_models_that_cannot_be_copied():
    model, _ = mlp()
    model.stream = iter([])
    model.lock = (step for step in range(3))
    with pytest.raises(ap.TraceError, match="cannot be copied"):
        ap.sparsify(model)


def test_hooks_are_gone_and_modes_stay():
    model, x = mlp()
    model.train()
    model[0].eval()
    result = ap.sparsify(model, format="csr", calibration=[x])
    modes = [module.training for module in model.modules()]
    assert [module.training for module in result.model.modules()] == modes
    assert not any(module._forward_pre_hooks for module in result.model.modules())
    copy.deepcopy(result.model)


@pytest.mark.slow
def test_the_example(tmp_path):
    script = Path(__file__).parents[2] / "examples" / "sparsify.py"
    command = [sys.executable, str(script), "--output", "sparse.onnx"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    shares = dict(re.findall(r"^  (.+?) +([\d.]+)%$", done.stdout, re.MULTILINE))
    shares = {name: float(share) / 100 for name, share in shares.items()}
    assert shares["at once"] < LEARNED
    trained = [name for name in shares if "at once" not in name]
    assert len(trained) == 4
    assert all(shares[name] > LEARNED for name in trained)
    assert (tmp_path / "sparse.onnx").exists()
