"""Plans compose: a network pruned several times is saved and loaded like one pruned once."""

from __future__ import annotations

import copy
import json
import pickle

import pytest
import torch
from torch import nn

import autoprune as ap
from autoprune.frameworks.torch.equality import difference
from tests.api.models import VECTORS, WORDS, Branchy, Mixer, build
from tests.tolerance import ROUNDING_SINGLE

X = torch.randn(2, 8, generator=torch.Generator().manual_seed(1))
GRAPH = ap.Options(keep_class=False)


class Chain(nn.Sequential):
    def __init__(self):
        super().__init__(
            nn.Linear(8, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 4)
        )


def chain(seed=0):
    return build(Chain, seed).eval()


def check_files(result, original, fresh, inputs, folder):
    """From its file and from its plan, a pruned network comes out of the original."""
    path = result.save(folder / "small.safetensors")
    loaded = ap.load(fresh, path, inputs)
    assert difference(result.model(inputs), loaded(inputs)) == 0
    plan = ap.Plan.load(result.save(folder / "plan.json"))
    assert plan == result.plan
    again = ap.apply_plan(original, plan, inputs)
    assert difference(result.model(inputs), again(inputs)) <= ROUNDING_SINGLE
    return loaded


@pytest.mark.parametrize("first", [ap.Options(), GRAPH], ids=["own class", "graph"])
@pytest.mark.parametrize("second", [ap.Options(), GRAPH], ids=["own class", "graph"])
def test_twice(first, second, tmp_path):
    once = ap.prune(chain(), X, channels=0.75, options=first)
    twice = ap.prune(once.model, X, channels=0.5, options=second)
    assert len(twice.plan.steps) == 2
    assert twice.plan.origin == once.plan.graph
    loaded = check_files(twice, chain(), chain(1), X, tmp_path)
    assert loaded[0].out_features == 24 if first == second == ap.Options() else True


def test_three_times_with_a_file_and_a_copy_between(tmp_path):
    once = ap.prune(chain(), X, channels=0.75)
    loaded = ap.load(chain(1), once.save(tmp_path / "once.safetensors"))
    twice = ap.prune(pickle.loads(pickle.dumps(loaded)), X, channels=0.75, ignore="0")
    thrice = ap.prune(copy.deepcopy(twice.model), X, params=0.5, options=GRAPH)
    assert len(thrice.plan.steps) == 3
    check_files(thrice, chain(), chain(1), X, tmp_path)


def test_compensated_norms_and_tied_weights(tmp_path):
    """Each step has factors of its own."""
    once = ap.prune(build(Mixer).eval(), WORDS, flops=0.8, multiple_of=1)
    twice = ap.prune(once.model, WORDS, flops=0.7, multiple_of=1)
    check_files(twice, build(Mixer).eval(), build(Mixer, 1).eval(), WORDS, tmp_path)


def test_graph_modules_traced_with_other_dynamic_shapes(tmp_path):
    batch = ap.Options(dynamic_shapes="batch")
    once = ap.prune(build(Branchy).eval(), VECTORS, channels=0.75, options=batch)
    twice = ap.prune(once.model, VECTORS, channels=0.5)
    assert not twice.plan.rebuildable
    check_files(twice, build(Branchy).eval(), build(Branchy, 1).eval(), VECTORS, tmp_path)


def test_constants_that_go_into_biases(tmp_path):
    def sigmoids(seed=0):
        make = lambda: nn.Sequential(nn.Linear(8, 32), nn.Sigmoid(), nn.Linear(32, 4))  # noqa: E731
        return build(make, seed).eval()

    once = ap.prune(sigmoids(), X, channels=0.75)
    twice = ap.prune(once.model, X, channels=0.5)
    assert [step.folded for step in twice.plan.steps] == [("2.bias",)] * 2
    check_files(twice, sigmoids(), sigmoids(1), X, tmp_path)


def test_a_learner_after_pruning(tmp_path):
    once = ap.prune(chain(), X, channels=0.75)
    pruner = ap.Pruner(once.model, X)
    optimizer = torch.optim.SGD(once.model.parameters(), lr=0.01)
    optimizer = pruner.hesso(optimizer, channels=0.5, steps=20)
    for _ in range(20):
        optimizer.zero_grad()
        once.model(X).square().sum().backward()
        optimizer.step()
    result = pruner.finish()
    assert len(result.plan.steps) == 2
    loaded = ap.load(chain(1), result.save(tmp_path / "small.safetensors"))
    assert difference(result.model(X), loaded(X)) == 0


def test_sparse_after_pruning_twice(tmp_path):
    twice = ap.prune(ap.prune(chain(), X, channels=0.75).model, X, channels=0.75)
    sparse = ap.sparsify(twice.model, format="block 8x1", sparsity=0.5)
    loaded = ap.load(chain(1), sparse.save(tmp_path / "sparse.safetensors"))
    assert difference(sparse.model(X), loaded(X)) == 0


def replace_activation(model):
    model[1] = nn.GELU()


def widen_the_head(model):
    model[4] = nn.Linear(model[4].in_features, 6)


def patch(model):
    model[1].forward = torch.tanh


@pytest.mark.parametrize("change", [replace_activation, widen_the_head, patch])
def test_a_network_changed_in_between(change, tmp_path):
    """Its plan starts from the changed network, which is said, and is refused elsewhere."""
    once = ap.prune(chain(), X, channels=0.75)
    change(once.model)
    twice = ap.prune(once.model, X, channels=0.5)
    assert not twice.plan.earlier
    assert "layers were changed afterwards" in str(twice.report).replace("\n", " ")
    path = twice.save(tmp_path / "small.safetensors")
    with pytest.raises(ap.PlanError, match="expects shape"):
        ap.load(chain(), path)
    loaded = ap.load(once.model, path)
    assert difference(twice.model(X), loaded(X)) == 0


def test_new_weights_are_no_change():
    once = ap.prune(chain(), X, channels=0.75)
    once.model.load_state_dict(ap.apply_plan(chain(5), once.plan).state_dict())
    once.model.to(torch.float64).train()
    twice = ap.prune(once.model, X.double(), channels=0.5)
    assert len(twice.plan.steps) == 2
    assert "changed" not in str(twice.report)


def test_only_one_of_the_steps(tmp_path):
    once = ap.prune(chain(), X, channels=0.75)
    twice = ap.prune(once.model, X, channels=0.5)
    data = json.loads(twice.plan.to_json())
    with pytest.raises(ap.PlanError, match="expects shape"):
        ap.apply_plan(once.model, twice.plan)
    alone = ap.Plan.from_json(json.dumps(data | {"earlier": []}))
    with pytest.raises(ap.PlanError, match="expects shape"):
        ap.apply_plan(chain(), alone)
    small = ap.apply_plan(once.model, alone)
    assert difference(small(X), twice.model(X)) == 0
    assert len(ap.prune(small, X, channels=0.5).plan.steps) == 3


def test_an_edited_first_step():
    """Other units of the same number are as good; another number contradicts the second step."""
    twice = ap.prune(ap.prune(chain(), X, channels=0.75).model, X, channels=0.5)
    data = json.loads(twice.plan.to_json())
    choice = data["earlier"][0]["groups"]["0.weight:0"]
    choice["kept"] = list(range(48))
    small = ap.apply_plan(chain(), ap.Plan.from_json(json.dumps(data)))
    assert small[0].out_features == 24
    choice["kept"] = list(range(40))
    with pytest.raises(ap.PlanError, match=r"expects shape \(48, 8\), the model has \(40, 8\)"):
        ap.apply_plan(chain(), ap.Plan.from_json(json.dumps(data)))
