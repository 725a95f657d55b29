"""A user's operator is pruned with the rule its author gives it in one statement."""

import pytest
import torch
from torch import nn

import autoprune as ap
from autoprune.errors import RuleError
from autoprune.ops.rule import find
from autoprune.testing import check_rule
from tests.rules.operators import Network, scaled_add

X = torch.randn(5, 8, generator=torch.Generator().manual_seed(0))


def give_rules():
    @ap.rule("testlib.scaled_add", zero=ap.State.ZERO)
    def added(call):
        return tuple(map(call.same, call.axes_of("a"), call.axes_of("b")))

    ap.rule("testlib.my_linear", "... i, o i + o -> ... o", zero=ap.State.ZERO)


def guarantees(report):
    return {row.name: row.guarantee for row in report.groups}


def test_without_rules_it_is_pinned():
    report = ap.inspect(Network(), X)
    assert not report.groups
    assert {row.name for row in report.unknown_operators} == {
        "testlib.scaled_add.default",
        "testlib.my_linear.default",
    }


def test_with_rules_it_is_pruned_in_its_own_class():
    give_rules()
    result = ap.prune(Network(), X, channels=0.5)
    assert type(result.model) is Network
    assert result.model.weight.shape == (12, 16)
    assert not result.report.unknown_operators
    assert guarantees(result.report) == {
        "weight:0": "zero-invariant",
        "weight:1": "zero-invariant",
    }


def test_flops_of_lettered_products_are_counted():
    give_rules()
    assert ap.inspect(Network(), X).before.flops == 2 * 5 * (2 * 8 * 32 + 32 * 24 + 24 * 4)


def test_rule_that_says_nothing_of_zeros_claims_no_zeros():
    @ap.rule("testlib.scaled_add")
    def added(call):
        return tuple(map(call.same, call.axes_of("a"), call.axes_of("b")))

    ap.rule("testlib.my_linear", "n i, o i, o -> n o")
    found = guarantees(ap.inspect(Network(), X))
    assert found == {"weight:0": "masked", "weight:1": "masked"}


def test_reduction_that_says_nothing_of_zeros_is_approximate():
    @ap.rule("testlib.my_linear")
    def linear(call):
        (n, i), (o, j), (p,) = (call.axes_of(name) for name in ("x", "w", "b"))
        call.same(i, j)
        return n, call.same(o, p)

    ap.rule("testlib.scaled_add", "... + ... -> ...", zero=ap.State.ZERO)
    found = guarantees(ap.inspect(Network(), X))
    assert found == {"weight:0": "masked", "weight:1": "approximate"}


def test_decorator_returns_the_function():
    def added(call):
        return call.axes_of("a")

    assert ap.rule(scaled_add)(added) is added


@pytest.mark.parametrize(
    "op", ["testlib.scaled_add", "testlib::scaled_add", scaled_add, torch.ops.testlib.scaled_add]
)
def test_operators_are_named_in_every_usual_way(op):
    ap.rule(op, "a b + a b -> a b")
    assert find("testlib.scaled_add.default") is not None


def test_cell_of_a_notebook_can_run_twice():
    ap.rule("testlib.scaled_add", "a b + a b -> a b")
    first = find("testlib.scaled_add.default")
    ap.rule("testlib.scaled_add", "a b + a b -> a b", zero=ap.State.ZERO)
    assert find("testlib.scaled_add.default") is not first


def test_rules_of_the_package_are_replaced_only_on_purpose():
    own = find("aten.sigmoid.default")
    with pytest.raises(ap.RuleError, match=r"aten\.sigmoid has a rule already"):
        ap.rule("aten.sigmoid", "... -> ...")
    ap.rule("aten.sigmoid", "... -> ...", override=True)
    assert find("aten.sigmoid.default") is not own
    ap.forget_rule("aten.sigmoid")
    assert find("aten.sigmoid.default") is own


def test_forgetting_a_rule_that_nobody_gave_is_an_error():
    with pytest.raises(ap.RuleError, match="no rule from outside"):
        ap.forget_rule("testlib.scaled_add")


def test_pin_without_letters_is_an_error():
    with pytest.raises(ap.RuleError, match="names letters"):
        ap.rule("testlib.scaled_add", pin="a")


class Normalized(nn.Module):
    """What a cut RMS normalization lacks has to get past the operator, to the last layer."""

    def __init__(self):
        super().__init__()
        self.a, self.norm, self.z = nn.Linear(8, 32), nn.RMSNorm(32), nn.Linear(32, 4)

    def forward(self, x):
        return self.z(torch.ops.testlib.leaky(self.norm(self.a(x).relu())))


@pytest.mark.parametrize(
    "homogeneous",
    [True, {"x": 1}, lambda call: [{call.tensor("x"): 1.0}]],
    ids=["as its letters", "by argument", "by a function"],
)
def test_a_homogeneous_operator_passes_factors_on(homogeneous):
    ap.rule("testlib.leaky", "... c -> ... c", zero=ap.State.ZERO, homogeneous=homogeneous)
    result = ap.prune(Normalized(), X, channels=0.5)
    assert type(result.model) is Normalized
    assert result.plan.factors
    check_rule("testlib.leaky", X)


def test_factors_stop_where_nothing_is_said_of_them():
    ap.rule("testlib.leaky", "... c -> ... c", zero=ap.State.ZERO)
    result = ap.prune(Normalized(), X, channels=0.5)
    assert result.report.module == "GraphModule"
    assert "testlib.leaky" in result.report.module_reason


@pytest.mark.parametrize("traits", [{"homogeneous": {"x": 2}}, {"moves": True}])
def test_traits_are_checked(traits):
    ap.rule("testlib.leaky", "... c -> ... c", zero=ap.State.ZERO, **traits)
    with pytest.raises(RuleError, match=next(iter(traits))):
        check_rule("testlib.leaky", X)
