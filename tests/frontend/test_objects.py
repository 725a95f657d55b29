"""Inputs and outputs that are objects of a library's or a user's own."""

import copy
import dataclasses

import pytest
import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

import autoprune as ap
from tests.tolerance import ROUNDING_SINGLE

X = torch.randn(2, 5, 8, generator=torch.Generator().manual_seed(0))


class Memory:
    """A cache as libraries write it: layers of it are objects, too."""

    class Layer:
        __slots__ = ("keys",)

        def __init__(self):
            self.keys = None

    def __init__(self):
        self.layers = [Memory.Layer()]

    def extended(self, keys: Tensor) -> Tensor:
        layer = self.layers[0]
        layer.keys = keys if layer.keys is None else torch.cat([layer.keys, keys], 1)
        return layer.keys


@dataclasses.dataclass
class Data:
    """State that is a dataclass."""

    keys: Tensor


@dataclasses.dataclass(frozen=True)
class Answer:
    logits: Tensor
    memory: Memory | None = None


class Plain:
    """Outputs that know nothing of dataclasses."""

    def __init__(self, logits: Tensor, memory: Memory):
        self.logits, self.memory, self.name = logits, memory, "plain"


class Batch:
    def __init__(self, x: Tensor, label: str):
        self.parts, self.label = {"x": x}, label


class Decoder(nn.Module):
    """A layer whose keys are kept in a memory, which it returns in some form."""

    def __init__(self, wrap=lambda logits, memory: (logits, memory)):
        super().__init__()
        torch.manual_seed(0)
        self.keys, self.head, self.wrap = nn.Linear(8, 24), nn.Linear(24, 3), wrap

    def forward(self, x: Tensor, memory: Memory | None = None, old: "Data | None" = None):
        memory = memory or Memory()
        keys = memory.extended(self.keys(x).relu())
        return self.wrap(self.head(keys.mean(1)), memory)


def halved(model, inputs, **options):
    options = ap.Options(**options)
    return ap.prune(model, inputs, channels=0.5, multiple_of=1, options=options)


def keys_of(memory: Memory) -> Tensor:
    return memory.layers[0].keys


@pytest.mark.parametrize("keep_class", [True, False], ids=["same class", "graph"])
@pytest.mark.parametrize(
    ("wrap", "logits"),
    [
        (lambda y, memory: (y, memory), lambda o: o[0]),
        (lambda y, memory: {"y": y, "memory": memory}, lambda o: o["y"]),
        (Answer, lambda o: o.logits),
        (lambda y, memory: [Answer(y), memory], lambda o: o[0].logits),
        (Plain, lambda o: o.logits),
        (lambda y, memory: (y, Data(keys_of(memory))), lambda o: o[0]),
    ],
    ids=["tuple", "dict", "dataclass", "list", "object", "dataclass as state"],
)
def test_state_is_no_output(wrap, logits, keep_class):
    model = Decoder(wrap)
    result = halved(model, X, keep_class=keep_class)
    assert result.model.keys.weight.shape == (12, 8)
    assert any("returns state" in note for note in result.report.notes)
    got, expected = result.model(X), model(X)
    assert type(got) is type(expected)
    assert logits(got).shape == (2, 3)
    if keep_class:
        memory = Memory()
        result.model(X, memory)
        result.model(X, memory)
        assert keys_of(memory).shape == (2, 10, 12)


@dataclasses.dataclass
class Both:
    logits: Tensor
    keys: Tensor


class Pair:
    """Not a dataclass, but nothing else is returned."""

    def __init__(self, logits: Tensor, keys: Tensor):
        self.logits, self.keys = logits, keys


@pytest.mark.parametrize("kind", [Both, Pair])
def test_tensors_in_outputs_of_other_classes_are_outputs(kind):
    model = Decoder(lambda y, memory: kind(y, keys_of(memory)))
    with pytest.raises(ap.BudgetError):
        ap.prune(model, X, params=0.5)
    report = ap.inspect(model, X)
    assert not report.groups
    assert not any("state" in note for note in report.notes)


@pytest.mark.parametrize("keep_class", [True, False], ids=["same class", "graph"])
def test_objects_can_be_inputs(keep_class):
    class Reading(Decoder):
        def forward(self, batch: Batch, memory: Memory):
            return super().forward(batch.parts["x"], memory)[0]

    model, batch, memory = Reading(), Batch(X, "train"), Memory()
    before = model(batch, copy.deepcopy(memory))
    result = halved(model, (batch, memory), keep_class=keep_class)
    assert result.model.keys.weight.shape == (12, 8)
    assert keys_of(memory) is None
    assert torch.equal(model(batch, copy.deepcopy(memory)), before)
    other = Batch(X + 1, "test")
    zeroed = ap.apply_plan(model, result.plan, (batch, memory))(other, Memory())
    torch.testing.assert_close(
        result.model(other, Memory()), zeroed, rtol=ROUNDING_SINGLE, atol=ROUNDING_SINGLE
    )


def test_a_full_memory_as_input_keeps_its_size():
    model, memory = Decoder(), Memory()
    memory.extended(torch.randn(2, 3, 24))
    pinned = ap.inspect(model, {"x": X, "memory": memory}).pinned
    assert any(row.size == 24 for row in pinned)
    assert keys_of(memory).shape == (2, 3, 24)


def test_no_class_is_registered_for_good():
    before = dict(pytree.SUPPORTED_NODES)
    halved(Decoder(Answer), X)
    assert before == pytree.SUPPORTED_NODES


@pytest.mark.parametrize("suffix", [".pt2", ".onnx"])
def test_files_hold_the_outputs_without_state(suffix, tmp_path):
    result = halved(Decoder(Answer), X)
    path = result.save(tmp_path / f"small{suffix}")
    if suffix == ".pt2":
        (got,) = pytree.tree_leaves(torch.export.load(path).module()(X))
    else:
        import onnxruntime

        (got,) = map(
            torch.from_numpy, onnxruntime.InferenceSession(path).run(None, {"x": X.numpy()})
        )
    expected = result.model(X).logits
    torch.testing.assert_close(got, expected, rtol=ROUNDING_SINGLE, atol=ROUNDING_SINGLE)
