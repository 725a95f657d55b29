"""Plans and files: what is saved can be loaded, and nothing else is."""

from __future__ import annotations

import copy
import json
import os

import numpy as np
import pytest
import torch
from safetensors import SafetensorError
from torch import nn

import autoprune as ap
from autoprune.frameworks.torch.equality import difference
from tests.api.models import IMAGES, MODELS, VECTORS, WORDS, Branchy, Digits, Mixer, build
from tests.tolerance import ROUNDING_SINGLE


def pruned(name, **options):
    make, inputs = MODELS[name]
    return ap.prune(build(make).eval(), inputs, flops=0.5, options=ap.Options(**options)), inputs


def fresh(name):
    return build(MODELS[name][0], seed=9).eval()


@pytest.mark.parametrize("name", MODELS)
def test_plan_round_trip(name, tmp_path):
    plan = pruned(name)[0].plan
    assert ap.Plan.from_json(plan.to_json()) == plan
    plan.save(tmp_path / "plan.json")
    assert ap.Plan.load(tmp_path / "plan.json") == plan
    assert json.loads(plan.to_json())["groups"]


@pytest.mark.parametrize("keep_class", [True, False])
@pytest.mark.parametrize("name", MODELS)
def test_apply_plan_to_the_same_weights_gives_the_same_network(name, keep_class):
    result, inputs = pruned(name, keep_class=keep_class)
    small = ap.apply_plan(build(MODELS[name][0]).eval(), result.plan, inputs)
    expected, got = result.model.state_dict(), small.state_dict()
    assert expected.keys() == got.keys()
    assert all(torch.equal(v, got[k]) for k, v in expected.items())
    assert difference(result.model(inputs), small(inputs)) == 0


@pytest.mark.parametrize("name", MODELS)
def test_state_dict_loads_into_a_planned_copy(name):
    result, inputs = pruned(name)
    model = fresh(name)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    small = ap.apply_plan(model, result.plan, inputs)
    small.load_state_dict(result.model.state_dict())
    assert difference(result.model(inputs), small(inputs)) == 0
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())


@pytest.mark.parametrize("keep_class", [True, False])
@pytest.mark.parametrize("name", MODELS)
def test_safetensors_round_trip(name, keep_class, tmp_path):
    """Tied weights (mixer) are written once and tied again."""
    result, inputs = pruned(name, keep_class=keep_class)
    path = result.save(tmp_path / "small.safetensors")
    small = ap.load(fresh(name), path, inputs)
    assert difference(result.model(inputs), small.eval()(inputs)) == 0
    assert os.listdir(tmp_path) == ["small.safetensors"]


class Versioned(nn.Linear):
    """Modules whose state changed between releases look at its version when they load."""

    _version = 2

    def _load_from_state_dict(self, state_dict, prefix, local_metadata, *args):
        assert local_metadata["version"] == 2
        super()._load_from_state_dict(state_dict, prefix, local_metadata, *args)


def test_loading_tells_modules_the_version_of_their_state(tmp_path):
    model = build(lambda: nn.Sequential(Versioned(8, 32), nn.ReLU(), nn.Linear(32, 4)))
    inputs = torch.randn(2, 8)
    result = ap.prune(model, inputs, params=0.5)
    result.save(tmp_path / "small.safetensors")
    loaded = ap.load(model, tmp_path / "small.safetensors")
    assert difference(loaded(inputs), result.model(inputs)) == 0


def test_an_edited_plan_is_followed():
    result, _ = pruned("digits")
    data = json.loads(result.plan.to_json())
    name = next(n for n in data["groups"] if n.startswith("0.weight"))
    data["groups"][name]["kept"] = [1, 2, 30]
    small = ap.apply_plan(build(Digits), ap.Plan.from_json(json.dumps(data)))
    assert torch.equal(small[0].weight, build(Digits)[0].weight[[1, 2, 30]])
    assert small[0].out_channels == 3
    assert small.eval()(IMAGES).shape == (2, 5)


@pytest.mark.parametrize("kept", [[], [2, 1], [0, 0], [-1, 3], [0, 32], [0, 1000]])
def test_an_edited_plan_out_of_range(kept):
    data = json.loads(pruned("digits")[0].plan.to_json())
    data["groups"]["0.weight:0"]["kept"] = kept
    with pytest.raises(ap.PlanError, match=r"0\.weight:0"):
        ap.Plan.from_json(json.dumps(data))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "null",
        "3",
        '"plan"',
        "{}",
        '{"format": 1}',
        '{"format": 99}',
        '{"format": 1, "graph": "", "rebuildable": true, "groups": [], "parameters": {}, '
        '"attributes": {}}',
        '{"format": 1, "graph": "", "rebuildable": true, "groups": {"a": {"units": "x", '
        '"kept": []}}, "parameters": {}, "attributes": {}}',
        '{"format": 1, "graph": "", "rebuildable": true, "groups": {"a": {"units": 2, '
        '"kept": [0.5]}}, "parameters": {}, "attributes": {}}',
    ],
)
def test_text_that_is_no_plan(text, tmp_path):
    with pytest.raises(ap.PlanError):
        ap.Plan.from_json(text)
    (tmp_path / "plan.json").write_text(text)
    with pytest.raises(ap.PlanError):
        ap.Plan.load(tmp_path / "plan.json")


def test_a_plan_file_that_is_not_there(tmp_path):
    with pytest.raises(ap.PlanError, match="cannot be read"):
        ap.Plan.load(tmp_path / "none.json")
    (tmp_path / "binary.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ap.PlanError):
        ap.Plan.load(tmp_path / "binary.json")


@pytest.mark.parametrize("edit", [
    lambda d: d["parameters"].update({"0.weight": ["nobody", 3, 3, 3]}),
    lambda d: d["parameters"].update({"0.weight": [{"power": [2]}, 3, 3, 3]}),
    lambda d: d["parameters"].update({"0.weight": [None, 3, 3, 3]}),
    lambda d: d["parameters"].update({"0.weight": ["0.weight:0", 3, 3]}),
    lambda d: d["parameters"].update({"nothing.weight": ["0.weight:0"]}),
    lambda d: d["parameters"].update({"0.weight": 3}),
    lambda d: d["attributes"].update({"nowhere": {"out_channels": ["0.weight:0"]}}),
    lambda d: d["attributes"].update({"0": {"no_such_attribute": ["0.weight:0"]}}),
    lambda d: d["attributes"].update({"0": {"out_channels": []}}),
    lambda d: d["attributes"].update({"0": 3}),
    lambda d: d["attributes"].update({"0": {"forward": ["0.weight:0"]}}),
    lambda d: d["attributes"].update({"0": {"kernel_size": ["0.weight:0"]}}),
], ids=["group", "expression", "null", "rank", "parameter", "number", "module", "attribute",
        "empty", "attributes", "method", "another attribute"])  # fmt: skip
def test_a_plan_that_parses_but_makes_no_sense(edit):
    data = json.loads(pruned("digits")[0].plan.to_json())
    edit(data)
    with pytest.raises(ap.PlanError):
        ap.apply_plan(build(Digits), ap.Plan.from_json(json.dumps(data)))


@pytest.mark.parametrize(
    ("name", "other", "inputs"),
    [
        ("digits", lambda: Digits(width=16), IMAGES),
        ("digits", lambda: nn.Linear(3, 4), IMAGES),
        ("mixer", lambda: Mixer(width=16), WORDS),
        ("branchy", lambda: nn.Sequential(nn.Linear(4, 256), nn.Linear(256, 3)), VECTORS),
    ],
    ids=["another width", "another model", "traced width", "traced model"],
)
def test_a_plan_for_another_model(name, other, inputs):
    plan = pruned(name)[0].plan
    with pytest.raises((ap.PlanError, ap.TraceError)) as raised:
        ap.apply_plan(build(other), plan, inputs)
    if name != "digits":
        assert raised.type is ap.PlanError


def test_a_traced_plan_needs_inputs():
    with pytest.raises(ap.PlanError, match="example_inputs"):
        ap.apply_plan(build(Branchy), pruned("branchy")[0].plan)


def test_a_cut_model_is_not_cut_again():
    result, _ = pruned("digits")
    with pytest.raises(ap.PlanError, match="shape"):
        ap.apply_plan(result.model, result.plan)


def test_truncated_and_foreign_weights(tmp_path):
    from safetensors.torch import save_file

    result, _ = pruned("digits")
    path = result.save(tmp_path / "small.safetensors")
    data = path.read_bytes()
    for size in (0, 7, 100, len(data) // 2, len(data) - 1):
        path.write_bytes(data[:size])
        with pytest.raises(ap.PlanError):
            ap.load(fresh("digits"), path)
    path.write_bytes(b"\xff" * 200)
    with pytest.raises(ap.PlanError):
        ap.load(fresh("digits"), path)
    save_file({"0.weight": torch.zeros(3)}, path)
    with pytest.raises(ap.PlanError, match="no plan"):
        ap.load(fresh("digits"), path)
    plan = {"autoprune.plan": result.plan.to_json()}
    state = {k: v.clone() for k, v in result.model.state_dict().items()}
    save_file({k: v for k, v in state.items() if k != "3.weight"}, path, metadata=plan)
    with pytest.raises(ap.PlanError, match=r"3\.weight"):
        ap.load(fresh("digits"), path)
    save_file({**state, "more": torch.zeros(2)}, path, metadata=plan)
    with pytest.raises(ap.PlanError, match="more"):
        ap.load(fresh("digits"), path)
    save_file({**state, "3.weight": torch.zeros(2)}, path, metadata=plan)
    with pytest.raises(ap.PlanError, match="do not fit"):
        ap.load(fresh("digits"), path)
    save_file({**state, "3.weight": state["3.weight"].to(torch.int32)}, path, metadata=plan)
    with pytest.raises(ap.PlanError, match=r"3\.weight is of torch\.int32"):
        ap.load(fresh("digits"), path)
    with pytest.raises(ap.PlanError):
        ap.load(fresh("digits"), tmp_path / "none.safetensors")


def test_json_holds_the_plan(tmp_path):
    result, _ = pruned("digits")
    assert ap.Plan.load(result.save(tmp_path / "plan.json")) == result.plan


def test_pt2_runs(tmp_path):
    result, inputs = pruned("digits")
    program = torch.export.load(result.save(tmp_path / "small.pt2"))
    assert difference(result.model(inputs), program.module()(inputs)) <= ROUNDING_SINGLE
    assert os.listdir(tmp_path) == ["small.pt2"]


@pytest.mark.parametrize("name", ["digits", "mixer"])
def test_onnx_agrees(name, tmp_path):
    import onnxruntime

    result, inputs = pruned(name)
    path = result.save(str(tmp_path / "small.onnx"))
    session = onnxruntime.InferenceSession(str(path))
    (got,) = session.run(None, {session.get_inputs()[0].name: inputs.numpy()})
    assert difference(result.model(inputs), torch.from_numpy(got)) <= ROUNDING_SINGLE
    assert os.listdir(tmp_path) == ["small.onnx"]


def test_onnx_with_a_dynamic_batch(tmp_path):
    import onnxruntime

    result, _ = pruned("branchy", dynamic_shapes="batch")
    session = onnxruntime.InferenceSession(str(result.save(tmp_path / "small.onnx")))
    for n in (1, 3, 17):
        x = torch.randn(n, 4)
        (got,) = session.run(None, {session.get_inputs()[0].name: x.numpy()})
        assert difference(result.model(x), torch.from_numpy(np.asarray(got))) <= ROUNDING_SINGLE


def test_saving_keeps_the_training_mode(tmp_path):
    make, inputs = MODELS["digits"]
    result = ap.prune(build(make).train(), inputs, flops=0.5)
    modes = [m.training for m in result.model.modules()]
    state = {k: v.clone() for k, v in result.model.state_dict().items()}
    for suffix in ("onnx", "pt2", "safetensors"):
        result.save(tmp_path / f"small.{suffix}")
        assert [m.training for m in result.model.modules()] == modes
    assert all(torch.equal(v, state[k]) for k, v in result.model.state_dict().items())


class Remembers(nn.Module):
    """Computes a grid when the size of its input is another than the last time."""

    size, grid = None, torch.empty(0)

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 16, 3), nn.Conv2d(16, 4, 3)

    def forward(self, x):
        y = self.second(torch.relu(self.first(x)))
        if self.size != y.shape[2:]:
            self.size = y.shape[2:]
            self.grid = torch.arange(y.shape[3]).to(y)
        return y + self.grid


@pytest.mark.filterwarnings("ignore:The tensor attribute self.grid was assigned")
@pytest.mark.parametrize("suffix", [".onnx", ".pt2"])
def test_saving_leaves_what_a_model_remembers(suffix, tmp_path):
    """An export sets the size, but not the grid, which it restores."""
    x = torch.randn(1, 3, 8, 8)
    result = ap.prune(Remembers(), x, channels=0.5)
    expected = copy.deepcopy(result.model)(x)
    result.save(tmp_path / f"small{suffix}")
    assert torch.equal(result.model(x), expected)


@pytest.mark.parametrize("name", ["small", "small.pt", "small.pth", "small.ONNX2", ".onnx"])
def test_unknown_suffix(name, tmp_path):
    with pytest.raises(ap.AutopruneError, match=r"cannot save as"):
        pruned("digits")[0].save(tmp_path / name)
    assert not os.listdir(tmp_path)


@pytest.mark.parametrize("suffix", ["onnx", "pt2", "safetensors", "json"])
def test_a_folder_that_does_not_exist(suffix, tmp_path):
    with pytest.raises(ap.AutopruneError, match="cannot be written"):
        pruned("digits")[0].save(tmp_path / "none" / f"small.{suffix}")
    assert not os.listdir(tmp_path)


@pytest.mark.parametrize("suffix", ["onnx", "pt2", "safetensors", "json"])
def test_a_path_that_is_a_folder(suffix, tmp_path):
    (tmp_path / f"small.{suffix}").mkdir()
    with pytest.raises(ap.AutopruneError, match="cannot be written"):
        pruned("digits")[0].save(tmp_path / f"small.{suffix}")
    assert os.listdir(tmp_path) == [f"small.{suffix}"]


@pytest.mark.parametrize("suffix", ["onnx", "pt2", "safetensors"])
def test_a_failing_export_leaves_the_old_file(suffix, tmp_path, monkeypatch):
    result, _ = pruned("digits")
    path = tmp_path / f"small.{suffix}"
    path.write_text("old")

    def fail(*_, **__):
        raise (SafetensorError if suffix == "safetensors" else RuntimeError)("no export today")

    monkeypatch.setattr(torch.onnx, "export", fail)
    monkeypatch.setattr(torch.export, "export", fail)
    monkeypatch.setattr("safetensors.torch.save", fail)
    with pytest.raises(ap.AutopruneError):
        result.save(path)
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == [path.name]
