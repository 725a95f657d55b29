"""Plans that were edited or damaged are refused before anything is changed."""

from __future__ import annotations

import copy
import dataclasses
import json
import os
import random
from functools import cache

import pytest
import torch
from torch import nn

import autoprune as ap
from autoprune.frameworks.torch.equality import difference
from tests.api.models import IMAGES, WORDS, Branchy, Digits, Mixer, build
from tests.effort import examples
from tests.onnx.build import Builder

NEW_IN_FORMAT_2 = ("alike", "architecture", "seal", "outers", "earlier")


@cache
def text_of(make):
    return ap.prune(build(make).eval(), INPUTS[make], flops=0.5).plan.to_json()


INPUTS = {Digits: IMAGES, Mixer: WORDS, Branchy: torch.zeros(6, 4)}


def data_of(make, version=2):
    data = json.loads(text_of(make))
    return data if version == 2 else as_format_1(data)


def as_format_1(data):
    return {k: v for k, v in data.items() if k not in NEW_IN_FORMAT_2} | {"format": 1}


def apply(data, make, inputs=None):
    return ap.apply_plan(build(make).eval(), ap.Plan.from_json(json.dumps(data)), inputs)


def removed(*path):
    def edit(data):
        for key in path[:-1]:
            data = data[key]
        del data[path[-1]]

    return edit


def put(value, *path):
    def edit(data):
        for key in path[:-1]:
            data = data[key]
        data[path[-1]] = value

    return edit


def deep(depth):
    axis = "0.weight:0"
    for _ in range(depth):
        axis = {"prod": [axis]}
    return axis


FACTOR = ("factors", "qkv.weight")
EDITS = {
    "a weight is missing": (Digits, removed("parameters", "0.weight")),
    "a bias is missing": (Digits, removed("parameters", "0.bias")),
    "a norm is missing": (Digits, removed("parameters", "1.weight")),
    "an attribute is missing": (Digits, removed("attributes", "0", "out_channels")),
    "a module is missing": (Digits, removed("attributes", "1")),
    "a group is missing": (Digits, removed("groups", "0.weight:0")),
    "a group in no parameter": (Digits, put({"units": 4, "kept": [0]}, "groups", "more")),
    "a group of no size": (Digits, put({"units": 0, "kept": [0]}, "groups", "0.weight:0")),
    "a negative size": (Digits, put(["0.weight:0", {"prod": [-3, -1]}, 3, 3], "parameters",
                                    "0.weight")),
    "no parameter": (Digits, put(["0.weight:0"], "parameters", "2.inplace")),
    "a method": (Digits, put(["0.weight:0"], "parameters", "0.forward")),
    "a module as a parameter": (Digits, put(["0.weight:0"], "parameters", "0")),
    "a huge axis": (Digits, put([{"prod": [2**40, 2**40]}], "parameters", "0.bias")),
    "a folded name": (Digits, put(["0.nothing"], "folded")),
    "a factor that is no number": (Mixer, put(["", float("nan"), 0.0], *FACTOR)),
    "an infinite factor": (Mixer, put(["", float("inf"), 0.0], *FACTOR)),
    "a factor of zero": (Mixer, put(["", 0.0, 0.0], *FACTOR)),
    "a negative factor": (Mixer, put(["", -1.1547005383792517, 0.0], *FACTOR)),
    "an absurd factor": (Mixer, put(["", 1e6, 0.0], *FACTOR)),
    "a factor as a whole number": (Mixer, put(["", 10**400, 0.0], *FACTOR)),
    "an offset": (Mixer, put(["", 1.1547005383792517, 1e9], *FACTOR)),
    "a factor for another group": (Mixer, put(["up.weight:0", 1.2, 0.0], *FACTOR)),
    "a factor for no parameter": (Mixer, put(["", 1.1, 0.0], "factors", "nothing.weight")),
    "an absurd constant": (Mixer, put([None, 1e9], "constants", "norm1", "eps")),
    "a constant that is no number": (Mixer, put([None, float("nan")], "constants", "norm1", "eps")),
    "another old value": (Mixer, put([1e-5, 1.1e-5], "constants", "norm1", "eps")),
    "a constant of no module": (Mixer, put({"eps": [None, 1e-5]}, "constants", "nothing")),
    "a constant of no attribute": (Mixer, put([None, 1e-5], "constants", "norm1", "more")),
    "rebuildable is no boolean": (Mixer, put("yes", "rebuildable")),
    "rebuildable after all": (Branchy, put(True, "rebuildable")),
    "deep": (Digits, put([deep(300), 3, 3, 3], "parameters", "0.weight")),
    "very deep": (Digits, put([deep(20_000), 3, 3, 3], "parameters", "0.weight")),
}  # fmt: skip


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("case", EDITS)
def test_edited(case, version):
    make, edit = EDITS[case]
    data = data_of(make, version)
    edit(data)
    if case == "very deep":
        data["parameters"]["0.weight"] = ["HERE", 3, 3, 3]
        inner = '{"prod": [' * 20_000 + '"0.weight:0"' + "]}" * 20_000
        text = json.dumps(data).replace('"HERE"', inner)
    else:
        text = json.dumps(data)
    model = build(make).eval()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    with pytest.raises(ap.PlanError):
        ap.apply_plan(model, ap.Plan.from_json(text), INPUTS[make] if make is Branchy else None)
    after = model.state_dict()
    assert all(torch.equal(v, after[k]) for k, v in before.items())


@pytest.mark.parametrize("make", INPUTS)
def test_format_1_is_read(make):
    old, new = (apply(data_of(make, v), make, INPUTS[make]) for v in (1, 2))
    assert difference(new(INPUTS[make]), old(INPUTS[make])) == 0
    plan = ap.Plan.from_json(json.dumps(data_of(make, 1)))
    assert ap.Plan.from_json(plan.to_json()).sealed() == plan.sealed()


def test_the_graph_is_compared_where_there_is_one():
    """Without example inputs nothing tells two networks with the same parameters apart."""
    make = lambda act: nn.Sequential(nn.Linear(4, 16), act, nn.Linear(16, 2))  # noqa: E731
    x = torch.randn(2, 4)
    plan = ap.prune(make(nn.ReLU()), x, channels=0.5).plan
    assert ap.apply_plan(make(nn.ReLU()), plan, x)[0].out_features == 8
    with pytest.raises(ap.PlanError, match="another graph"):
        ap.apply_plan(make(nn.Tanh()), plan, x)


def test_parameters_that_the_plan_does_not_name_are_compared():
    make = lambda n: nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 3), nn.Linear(3, n))  # noqa: E731
    plan = ap.prune(make(5), torch.randn(2, 4), channels=0.5, ignore="3").plan
    assert "3.weight" not in plan.parameters
    with pytest.raises(ap.PlanError, match="another architecture"):
        ap.apply_plan(make(6), plan)


def test_fewer_units_than_factors_were_made_for():
    data = data_of(Mixer)
    name = next(n for n, c in data["groups"].items() if "outer" not in c)
    kept = data["groups"][name]["kept"]
    unit = next(u for u in range(data["groups"][name]["units"]) if u not in kept)
    data["groups"][name]["kept"] = sorted({*kept[1:], unit})
    assert apply(data, Mixer, WORDS)(WORDS).isfinite().all()
    data["groups"][name]["kept"] = kept[1:]
    with pytest.raises(ap.PlanError, match="factors"):
        apply(data, Mixer)


class TwoWidths(nn.Module):
    """Keys and values are two groups, and one attribute states the width of both."""

    def __init__(self):
        super().__init__()
        self.width, self.q, self.k = 8, nn.Linear(6, 16), nn.Linear(6, 16)
        self.v, self.out = nn.Linear(6, 16), nn.Linear(16, 3)

    def forward(self, x):
        q, k, v = (m(x).view(*x.shape[:2], 2, self.width).transpose(1, 2)
                   for m in (self.q, self.k, self.v))  # fmt: skip
        return self.out(((q @ k.mT).softmax(-1) @ v).transpose(1, 2).flatten(2))


def test_groups_whose_size_is_stated_once():
    x = torch.randn(2, 5, 6)
    options = ap.Options(per_outer=False)
    plan = ap.prune(build(TwoWidths), x, channels=0.5, multiple_of=1, options=options).plan
    assert plan.alike == (("q.weight:0/1", "v.weight:0/1"),)
    data = json.loads(plan.to_json())
    data["groups"]["v.weight:0/1"]["kept"] = [0, 1]
    with pytest.raises(ap.PlanError, match="equally many"):
        ap.Plan.from_json(json.dumps(data))
    data["groups"]["q.weight:0/1"]["kept"] = [2, 5]
    assert ap.apply_plan(build(TwoWidths), ap.Plan.from_json(json.dumps(data)), x).width == 2
    data["alike"].append([])
    with pytest.raises(ap.PlanError):
        ap.Plan.from_json(json.dumps(data))


def test_a_table_is_replaced_by_one_list():
    from tests.api.test_per_outer import EXPERTS, Experts

    data = json.loads(ap.prune(build(Experts), EXPERTS, channels=0.5).plan.to_json())
    data["groups"]["up:2"] = {"units": 8, "kept": [0, 1, 2]}
    small = ap.apply_plan(build(Experts), ap.Plan.from_json(json.dumps(data)), EXPERTS)
    assert torch.equal(small.up, build(Experts).up[:, :, :3])


def test_changed_in_python():
    plan = ap.Plan.from_json(text_of(Digits))
    parameters = {k: v for k, v in plan.parameters.items() if k != "1.weight"}
    for broken in (
        dataclasses.replace(plan, parameters=parameters),
        dataclasses.replace(plan, parameters=parameters, seal="", architecture=""),
        dataclasses.replace(plan, factors={"0.bias": ap.ir.plan_parts.Factor("", float("nan"))}),
    ):
        with pytest.raises(ap.PlanError):
            ap.apply_plan(build(Digits), broken)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no pipes")
@pytest.mark.parametrize("read", [ap.Plan.load, lambda p: ap.load(build(Digits), p)])
def test_a_pipe_is_not_waited_for(read, tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ap.PlanError, match="cannot be read"):
        read(tmp_path / "pipe")
    with pytest.raises(ap.PlanError, match="cannot be read"):
        read("/dev/zero")


JUNK = [None, True, -1, 0, 3, 10**30, 1e308, float("nan"), "", "0.weight:0", "\ud800", [], {}, [[]],
        {"prod": []}, {"sum": [1, 2]}, [0, 1]]  # fmt: skip


def mutated(data, rng):
    """One entry somewhere in the data is removed, doubled, or becomes something else."""
    while True:
        keys = list(data) if isinstance(data, dict) else range(len(data))
        if not keys:
            return
        key = rng.choice(list(keys))
        if isinstance(data[key], dict | list) and data[key] and rng.random() < 0.8:
            data = data[key]
            continue
        kind = rng.random()
        if kind < 0.2:
            del data[key]
        elif kind < 0.4 and isinstance(data, list):
            data.insert(key, data[rng.randrange(len(data))])
        else:
            data[key] = copy.deepcopy(rng.choice(JUNK))
        return


def mutated_texts(plain, number):
    """Plans that were changed here and there, from their data in both formats."""
    rng = random.Random(0)
    for i in range(number):
        data = copy.deepcopy(plain[2 if i % 4 else 1])
        for _ in range(rng.randint(1, 2)):
            mutated(data, rng)
        text = json.dumps(data)
        if i % 3 == 0:
            at = rng.randrange(len(text))
            new = rng.choice(["", "[", '"', "9", "\x00"])
            text = text[:at] + new + text[at + rng.randint(0, 2) :]
        yield data.get("format"), text


@pytest.mark.parametrize("make", INPUTS)
def test_mutated_plans(make):
    """A plan error, or a network that runs: only the choice of units may have changed."""
    model, inputs = build(make).eval(), INPUTS[make] if make is Branchy else None
    plain = {version: data_of(make, version) for version in (1, 2)}
    for version, text in mutated_texts(plain, examples(20 if make is Branchy else 60)):
        try:
            small = ap.apply_plan(model, ap.Plan.from_json(text), inputs)
        except ap.PlanError:
            continue
        if version == 2:
            small(INPUTS[make])


def test_mutated_plans_of_onnx_models():
    b = Builder()
    x = b.node("Relu", b.convolution("a", b.input("x", (2, 3, 8, 8)), 3, 8, 3))
    model = b.model(b.head(b.node("Relu", b.convolution("c", x, 8, 12)), 12))
    data = json.loads(ap.prune(model, channels=0.5, multiple_of=1).plan.to_json())
    for _, text in mutated_texts({1: as_format_1(data), 2: data}, examples(20)):
        try:
            small = ap.apply_plan(model, ap.Plan.from_json(text))
        except ap.PlanError:
            continue
        ap.inspect(small)


@pytest.mark.parametrize("plan", [None, "plan.json", {}])
def test_something_else_than_a_plan(plan):
    with pytest.raises(ap.PlanError, match="a Plan is needed"):
        ap.apply_plan(build(Digits), plan)


def test_mutated_checkpoints(tmp_path):
    """Whatever bytes of a checkpoint change, it loads into the right shapes or is refused."""
    path = ap.prune(build(Digits).eval(), IMAGES, flops=0.5).save(tmp_path / "small.safetensors")
    good, rng = path.read_bytes(), random.Random(0)
    header = int.from_bytes(good[:8], "little")
    for _ in range(examples(60)):
        data = bytearray(good)
        for _ in range(rng.randint(1, 3)):
            at = rng.randrange(8 + header if rng.random() < 0.9 else len(data))
            data[at] = (
                rng.randrange(256) if rng.random() < 0.5 else data[at] ^ 1 << rng.randrange(8)
            )
        path.write_bytes(data[: rng.choice([len(data), len(data), rng.randrange(len(data))])])
        try:
            small = ap.load(build(Digits).eval(), path)
        except ap.PlanError:
            continue
        assert small(IMAGES).shape == (2, 5)
