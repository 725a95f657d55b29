"""Rules found by experiments: as free as they can be, and never freer than the operator is."""

import pytest
import torch
from torch import nn

import autoprune as ap
from autoprune.analysis.experiments.probing import probe
from autoprune.errors import RuleError
from autoprune.frameworks.torch.calls import sample_calls
from autoprune.frameworks.torch.trace import trace
from tests.rules import operators as lib

PROBING = ap.Options(probe=True)
X = torch.randn(5, 8, generator=torch.Generator().manual_seed(0))


class Call(nn.Module):
    def __init__(self, call):
        super().__init__()
        self.call = call

    def forward(self, *tensors):
        return self.call(*tensors)


def probed(call, *arguments):
    """The result of probing a call; tuples among its arguments are shapes of random operands."""
    generator = torch.Generator().manual_seed(0)
    shapes = [a for a in arguments if isinstance(a, tuple)]
    rest = [a for a in arguments if not isinstance(a, tuple)]
    operands = [torch.randn(s, generator=generator, dtype=torch.float64) for s in shapes]
    traced = trace(Call(lambda *tensors: call(*tensors, *rest)), tuple(operands))
    [node] = [n for n in traced.graph.nodes if n.outputs]
    sample = sample_calls(traced, {node.name})[node.name]
    if isinstance(sample, RuleError):
        raise sample
    return probe(sample)


ZERO, CONSTANT = ", zero=ap.State.ZERO", ", zero=ap.State.CONSTANT"


@pytest.mark.parametrize(
    ("call", "shapes", "statement"),
    [
        (lambda x, y: lib.scaled_add(x, y, 2.0), [(4, 6), (4, 6)], "a b + a b -> a b" + ZERO),
        (torch.mul, [(4, 6), (6,)], "a b, b -> a b" + ZERO),
        (torch.sigmoid, [(4, 6)], "a b -> a b" + CONSTANT),
        (torch.mm, [(4, 3), (3, 5)], "a b, b c -> a c" + ZERO),
        (torch.addbmm, [(4, 5), (2, 4, 3), (2, 3, 5)], "a b + c a d, c d b -> a b" + ZERO),
        (lambda *v: lib.my_linear(*v), [(4, 3), (5, 3), (5,)], "a b, c b + c -> a c" + ZERO),
        (lambda x: lib.moments(x), [(4, 6)], "a b -> a b, a" + ZERO),
        (torch.sum, [(4, 6)], "a b ->" + ZERO),
        (torch.amax, [(4, 6), [1]], "a b -> a" + ZERO + ", pin=b"),
        (torch.amin, [(4, 6), [1]], "a b -> a" + ZERO + ", pin=b"),
        (torch.prod, [(4, 6), 1], "a b -> a" + ZERO + ", pin=b"),
        (torch.cdist, [(4, 3), (5, 3)], "a b + c b -> a c" + ZERO),
        (torch.log_softmax, [(4, 6), 1], "a b -> a c" + CONSTANT + ", pin=b"),
        (torch.cumsum, [(4, 6), 1], "a b -> a c" + ZERO + ", pin=b"),
        (lambda x: lib.flip(x), [(4, 6)], "a b -> a c" + ZERO + ", pin=b"),
        (lambda x: lib.to_heads(x, 3), [(4, 12)], "a b -> a c d" + ZERO + ", pin=b"),
        (lambda x: lib.pad_to(x, 9), [(4, 6)], "a b -> a c" + ZERO + ", pin=b"),
        (torch.layer_norm, [(4, 6), [6]], "a b -> a c" + ZERO + ", pin=b"),
        (torch.conv2d, [(2, 6, 5, 7), (4, 6, 3, 3)],
         "a b c d, e b f g -> a e h i" + ZERO + ", pin=c d f g"),
        (lambda x, w: torch.conv2d(x, w, groups=2), [(2, 6, 5, 7), (4, 3, 3, 3)],
         "a b c d, e f g h -> a e i j" + ZERO + ", pin=b c d e f g h"),
    ],
)  # fmt: skip
def test_statement(call, shapes, statement):
    found = str(probed(call, *shapes)).replace('"', "").removesuffix(")").partition(", ")[2]
    assert found == statement


@pytest.mark.parametrize(
    ("call", "why"),
    [
        (lambda x: lib.guess_again(x), "does not compute the same twice"),
        (torch.rand_like, "draws random numbers"),
        (torch.t, "share memory"),
        (torch.unbind, "share memory"),
        (lambda x: x.add_(1), "writes to its arguments"),
        (torch.log, "not finite"),
        (torch.max, "no axis of it can be cut"),
        (lambda x: torch.eq(x, 7.5), "no axis of it can be cut"),
    ],
)
def test_what_is_not_probed(call, why):
    with pytest.raises(ap.RuleError, match=why):
        probed(call, (4, 6))


def test_large_calls_are_not_probed():
    with pytest.raises(ap.RuleError, match="too large"):
        probed(torch.sin, (2048, 2049))


def test_probing_prunes_a_network_of_unknown_operators_in_its_own_class():
    result = ap.prune(lib.Network(), X, channels=0.5, options=PROBING)
    assert type(result.model) is lib.Network
    assert {row.name: (row.kept, row.guarantee) for row in result.report.groups} == {
        "weight:0": (12, "zero-invariant"),
        "weight:1": (16, "zero-invariant"),
    }
    assert not result.report.unknown_operators


def test_report_gives_each_probed_rule_as_one_would_write_it():
    notes = " ".join(ap.inspect(lib.Network(), X, options=PROBING).notes)
    for letters in ("a b + a b -> a b", "a b, c b + c -> a c"):
        assert f'"{letters}", zero=ap.State.ZERO), which is used in 1 of its calls' in notes


class Guess(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Linear(8, 6)
        self.z = nn.Linear(6, 2)

    def forward(self, x):
        return self.z(lib.guess_again(self.a(x)))


def test_what_cannot_be_probed_is_pinned_and_reported():
    report = ap.inspect(Guess(), X, options=PROBING)
    assert not report.groups
    assert any("probing failed: it does not compute the same twice" in n for n in report.notes)
    assert [row.name for row in report.unknown_operators] == ["testlib.guess_again.default"]


def test_rules_that_someone_wrote_are_not_probed():
    ap.rule("testlib.scaled_add", "a b + a b -> a b", zero=ap.State.ZERO)
    notes = " ".join(ap.inspect(lib.Network(), X, options=PROBING).notes)
    assert "testlib.my_linear" in notes
    assert "testlib.scaled_add" not in notes


def test_plan_of_a_probed_graph_applies_to_it_again():
    options = ap.Options(probe=True, keep_class=False)
    torch.manual_seed(0)
    network = lib.Network()
    result = ap.prune(network, X, channels=0.5, options=options)
    again = ap.apply_plan(network, result.plan, X)
    torch.testing.assert_close(again(X), result.model(X))


class Sized(nn.Module):
    """Refuses to be cut: the operator's integer argument is the size of the axis."""

    def __init__(self):
        super().__init__()
        self.a = nn.Linear(8, 6)
        self.z = nn.Linear(6, 2)

    def forward(self, x):
        return self.z(lib.pad_to(self.a(x), 6))


def test_sizes_among_the_arguments_pin():
    assert not ap.inspect(Sized(), X, options=PROBING).groups
