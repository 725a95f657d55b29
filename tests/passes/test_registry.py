"""Criteria of users: by name, with what they declare, and checked."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

import autoprune as ap
from autoprune.ir.axes import Leaf
from autoprune.ir.group import Group, Guarantee, Occurrence
from autoprune.passes.pruning.analysed import analyse_network
from autoprune.passes.pruning.criteria import (
    CRITERIA,
    NEEDS,
    Criterion,
    Tensors,
    find_criterion,
    score_groups,
)
from autoprune.passes.pruning.given import given
from autoprune.passes.registry import Registry
from autoprune.testing import check_criterion
from tests.tolerance import ROUNDING_SINGLE

LEAF, OTHER = Leaf(0, 4), Leaf(1, 2)


@pytest.fixture
def taylor():
    @ap.criterion("taylor", needs=("weights", "gradients"), comparable=True, per_cost=True)
    def taylor(units):
        return np.abs(units.sums(np.multiply, "weights", "gradients"))

    yield taylor
    ap.forget_criterion("taylor")


def test_a_criterion_of_weights_and_gradients_given_by_hand(taylor):
    group = Group("g", LEAF, (Occurrence("w", 0), Occurrence("v", 1)), Guarantee.ZERO_INVARIANT)
    types = {"w": (LEAF,), "v": (OTHER, LEAF)}
    weights = {"w": np.array([1.0, 2, 3, 4]), "v": np.array([[1.0, 0, 0, 1], [1, 0, 1, 0]])}
    gradients = {"w": np.array([1.0, -1, 0, 1]), "v": np.array([[-1.0, 5, 5, -4], [3, 5, 2, 5]])}
    data = {"weights": Tensors(weights, types), "gradients": Tensors(gradients, types)}
    (scores,) = score_groups(taylor, [group], data, np.random.default_rng(0))
    assert scores.tolist() == [3, 2, 2, 0]
    del gradients["v"]
    with pytest.raises(ap.AutopruneError, match="no gradients of v"):
        score_groups(taylor, [group], data, np.random.default_rng(0))


def test_a_criterion_of_the_gradients_of_a_network(taylor):
    """The second layer reads nothing of the last unit, so the loss does not depend on it."""
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))
    with torch.no_grad():
        model[2].weight[:, 3] = 0
    x = torch.randn(5, 3, generator=torch.Generator().manual_seed(0))
    network = given(model, x).trace()
    analysis = analyse_network(network, ap.Options())
    gradients = network.gradients(lambda y: y.square().mean(), x)
    types = analysis.typed.types
    data = {"weights": Tensors(network.weights(), types), "gradients": Tensors(gradients, types)}
    (scores,) = score_groups(taylor, analysis.found.groups, data, np.random.default_rng(0))

    model(x).square().mean().backward()
    first, second = model[0], model[2]
    expected = sum((p * p.grad).reshape(4, -1).sum(dim=1) for p in (first.weight, first.bias)) + (
        second.weight * second.weight.grad
    ).sum(dim=0)
    np.testing.assert_allclose(scores, expected.abs().detach(), rtol=ROUNDING_SINGLE)
    assert scores[3] == 0 < scores[:3].min()


def test_what_cannot_be_met_is_said_before_anything_is_done(taylor):
    with pytest.raises(ap.AutopruneError, match="needs gradients") as raised:
        ap.prune(None, None, flops=0.5, criterion="taylor")
    assert "l1, l2, random" in raised.value.hint


@pytest.mark.filterwarnings("ignore::autoprune.BudgetWarning")
def test_scores_that_compare_are_left_as_they_are():
    """Divided by its mean, each of two groups of equal scores would give up as much."""
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 4))

    def first_matters_more(units):
        return np.full(units.units, 2.0 if units.group.name == "0.weight:0" else 1.0)

    def sizes(criterion):
        options = ap.Options(allocation="global")
        result = ap.prune(
            model,
            torch.zeros(1, 4),
            params=0.7,
            criterion=criterion,
            multiple_of=1,
            options=options,
        )
        return result.model[0].out_features, result.model[2].out_features

    apart = sizes(first_matters_more)
    assert apart[0] == apart[1]
    assert sizes(Criterion(first_matters_more, comparable=True))[0] == 8


def test_names_are_taken_once(taylor):
    assert CRITERIA["taylor"] is find_criterion("taylor", NEEDS) is taylor
    with pytest.raises(ap.AutopruneError, match="a criterion 'taylor' already"):
        ap.criterion("taylor")(len)
    with pytest.raises(ap.AutopruneError, match="cannot need 'data'"):
        ap.criterion("another", needs=["data"])(len)
    with pytest.raises(ap.AutopruneError, match="no criterion 'other'"):
        ap.forget_criterion("other")
    assert "another" not in CRITERIA


def test_functions_may_declare_as_attributes():
    class Scaled:
        needs = ("weights", "gram")
        comparable = True

        def __call__(self, units):
            return units.sums(np.abs)

    found = find_criterion(Scaled(), ("weights", "gram"))
    assert (found.needs, found.comparable, found.per_cost) == ({"weights", "gram"}, True, False)


@pytest.mark.parametrize("name", sorted(CRITERIA))
def test_the_criteria_of_the_package(name):
    assert check_criterion(name) > 10


def test_a_right_criterion_of_everything(taylor):
    def everything(units):
        found = [m.std(axis=1) for need in units.data for m in units.matrices(need)]
        return units.sums(np.square, "gram") + np.sum(found, axis=0)

    check_criterion(taylor)
    needs = frozenset(("gradients", "inputs", "gram", "statistics"))
    assert check_criterion(Criterion(everything, needs)) > 10


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda u: np.arange(u.units), "in another order"),
        (lambda u: np.random.default_rng().random(u.units), "the second time"),
        (lambda u: u.sums(lambda w: abs(w) > 0.1), "as large change which"),
        (lambda u: u.sums(lambda w: np.full(w.shape, w.itemsize)), "double precision"),
        (lambda u: np.where(u.sums(abs) > 0, 1, np.nan), "finite scores"),
        (lambda u: u.sums(np.abs, "gradients"), "reads gradients and does not declare it"),
        (lambda u: u.weights["make.weight"].fill(0), "read-only"),
        (lambda u: u.sums(lambda w: np.multiply(w, 0, out=w)), "read-only"),
        (lambda u: np.ones(3), "5 finite scores, got shape"),
        (lambda u: None, "5 finite scores"),
    ],
)
def test_wrong_criteria(function, message):
    with pytest.raises(ap.AutopruneError, match=message):
        check_criterion(function)


def test_a_registry_lists_what_it_has():
    fruit = Registry("fruit", ap.BudgetError, "your own")
    fruit.add("apple", 1)
    fruit.add("pear", 2)
    assert (fruit.find("pear"), len(fruit), list(fruit)) == (2, 2, ["apple", "pear"])
    with pytest.raises(ap.BudgetError, match="no fruit 'Apples'") as raised:
        fruit.find("Apples")
    assert raised.value.hint == "did you mean 'apple'? use one of apple, pear, or your own"
    with pytest.raises(ap.BudgetError, match="a fruit 'pear' already"):
        fruit.add("pear", 3)
    fruit.forget("pear")
    assert list(fruit) == ["apple"]
