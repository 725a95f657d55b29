"""`check_rule` accepts right rules, and says of wrong ones which axis of which operand is wrong."""

import pytest
import torch

import autoprune as ap
from autoprune.testing import check_network, check_rule, examine_rule
from tests.rules import operators as lib


def normal(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape)))


def heads(call):
    return {"heads": call.size(call.axes_of(call.output)[1])}


RIGHT = {
    "sum": (lib.scaled_add, "a b + a b -> a b", {"zero": ap.State.ZERO}, (4, 6), (4, 6), 0.5),
    "nothing said of zeros": (lib.scaled_add, "a b, a b -> a b", {}, (4, 6), (4, 6), 0.5),
    "linear": (lib.my_linear, "n i, o i + o -> n o", {"zero": ap.State.ZERO}, (4, 3), (5, 3), (5,)),
    "optional tensor": (lib.my_linear, "... i, o i + o -> ... o", {}, (4, 2, 3), (5, 3), None),
    "sigmoid": (lib.smooth_gate, "... -> ...", {"zero": ap.State.CONSTANT}, (4, 6)),
    "reversed axis pinned": (lib.flip, "a b -> a b", {"zero": ap.State.ZERO, "pin": "b"}, (4, 6)),
    "softmax axis pinned": (lib.attention_weights, "a b -> a b", {"pin": "b"}, (4, 6)),
    "reshape": (
        lib.to_heads, "n (h d) -> n h d", {"zero": ap.State.ZERO, "resize": heads}, (5, 12), 3),
    "two outputs": (lib.moments, "n c -> n c, n", {"zero": ap.State.ZERO}, (4, 6)),
}  # fmt: skip

WRONG = {
    "axis that is reversed": (
        (lib.flip, "a b -> a b", {}, (4, 6)), "`x`", 1, "changes what should stay"),
    "axis that is normalized over": (
        (lib.attention_weights, "a b -> a b", {}, (4, 6)), "`x`", 1, "changes what should stay"),
    "bias that is not tied": (
        (lib.my_linear, "n i, o i + p -> n o", {}, (4, 3), (5, 3), (5,)), "`b`", 0, "does not run"),
    "zeros that are one half": (
        (lib.smooth_gate, "a b -> a b", {"zero": ap.State.ZERO}, (4, 6)),
        "`x`", 1, "claimed to be zero .* and is one number a unit"),
    "product that is a sum": (
        (lib.scaled_add, "a b, a b -> a b", {"zero": ap.State.ZERO}, (4, 6), (4, 6), 0.5),
        "`b`", 0, "claimed to be zero .*`a` zero there, `b` anything there"),
    "argument that is not resized": (
        (lib.to_heads, "n (h d) -> n h d", {"zero": ap.State.ZERO}, (5, 12), 3),
        "`x`", 1, "does not run|as stated"),
    "axis that is summed": (
        (lib.moments, "n c -> n c, c", {}, (6, 6)), "`x`", 0, "as stated"),
}  # fmt: skip


def given(op, letters, keywords, *arguments):
    ap.rule(op, letters, **keywords)
    return op, *(normal(*a) if isinstance(a, tuple) else a for a in arguments)


@pytest.mark.parametrize("name", RIGHT)
def test_right_rule_is_accepted(name):
    report = check_rule(*given(*RIGHT[name]))
    assert report.ok
    assert not report.hints
    assert all(row.verdict in ("free", "pinned") for row in report.rows)


@pytest.mark.parametrize("name", WRONG)
def test_wrong_rule_is_refuted_where_it_is_wrong(name):
    rule, operand, dim, why = WRONG[name]
    call = given(*rule)
    with pytest.raises(ap.RuleError, match=why):
        check_rule(*call)
    wrong = {(r.operand, r.dim) for r in examine_rule(*call).rows if r.verdict == "wrong"}
    assert (operand, dim) in wrong


def test_refutation_proposes_a_right_rule():
    report = examine_rule(*given(lib.smooth_gate, "a b -> a b", {"zero": ap.State.ZERO}, (4, 6)))
    assert report.proposal in str(report)
    exec(report.proposal, {"ap": ap})
    assert check_rule(lib.smooth_gate, normal(4, 6)).ok


def test_axes_that_are_pinned_needlessly_are_a_hint():
    report = check_rule(*given(lib.smooth_gate, "a b -> a b", {"pin": "b"}, (4, 6)))
    assert report.hints == ("`x` dim 1 is pinned, and can be cut",)


def test_operator_without_a_rule_is_told_one():
    with pytest.raises(ap.RuleError, match="no rule") as refused:
        check_rule(lib.moments, normal(4, 6))
    assert 'ap.rule("testlib.moments", "a b -> a b, a"' in refused.value.hint


def test_rule_that_raises_is_wrong():
    @ap.rule(lib.flip)
    def flip(call):
        return call.axes_of("input")

    with pytest.raises(ap.RuleError, match="the rule fails: argument input is not a tensor"):
        check_rule(lib.flip, normal(4, 6))


def test_operator_that_writes_to_its_arguments_cannot_be_checked():
    ap.rule("testlib.accumulate", "a, a -> a")
    with pytest.raises(ap.RuleError, match="it writes to its arguments"):
        check_rule(lib.accumulate, normal(4), normal(4))


def test_function_may_call_one_operator_only():
    with pytest.raises(ap.RuleError, match="calls 2 operators"):
        check_rule(lambda x: x.sin().cos(), normal(4, 6))


@pytest.mark.parametrize(
    ("op", "arguments"),
    [
        (torch.nn.functional.linear, ((4, 3), (5, 3), (5,))),
        (torch.ops.aten.softmax.int, ((4, 6), 1)),
        (lambda x, w: torch.conv2d(x, w, groups=2), ((2, 6, 5, 7), (4, 3, 3, 3))),
        (lambda x: torch.split(x, 2, 1), ((2, 6, 5),)),
        (lambda x: x.mean(1), ((4, 6),)),
    ],
)
def test_rules_of_the_package_pass(op, arguments):
    assert check_rule(op, *(normal(*a) if isinstance(a, tuple) else a for a in arguments)).ok


def test_network_with_a_wrong_rule_breaks_the_law():
    ap.rule("testlib.scaled_add", "... + ... -> ...", zero=ap.State.ZERO)
    ap.rule("testlib.my_linear", "n i, o i + o -> n o", zero=ap.State.ZERO)
    network, x = lib.Network().double(), normal(5, 8).double()
    assert len(check_network(network, x).groups) == 2
    ap.rule("testlib.my_linear", "n i, o k + o -> n o", zero=ap.State.ZERO)
    with pytest.raises(ap.NotEqualError, match="does not run"):
        check_network(network, x)
