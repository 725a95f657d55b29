"""Methods are known by name; one class adds one, and three add another kind of training."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import pytest
import torch
from torch import nn
from torch.optim import SGD

import autoprune as ap
from autoprune.passes import learners
from autoprune.passes.learners import masks
from autoprune.passes.learners.optimizer import SparseOptimizer
from autoprune.passes.learners.session import Session
from autoprune.passes.learners.training import Training, TrainingMethod
from tests.learners.training import STEPS, TIMING, Perceptron, same, state, train, vectors

UNITS = {
    "hspg": learners.HSPG(),
    "dhspg": learners.DHSPG(),
    "hesso": learners.HESSO(),
    "hesso_cric": learners.HESSOCRIC(),
    "group_lasso": learners.GroupLasso(),
    "polarization": learners.Polarization(),
    "wgsef": learners.WGSEF(),
    "turbo_vbi": learners.TurboVBI(),
}
MASKS = {
    "gmp": masks.GMP(),
    "sr_ste": masks.SRSTE(),
    "srigl": masks.SRigL(),
    "learnable": masks.Learnable(),
}


def made(model=None):
    model = Perceptron() if model is None else model
    return ap.Pruner(model, vectors(0)[0], multiple_of=1), SGD(model.parameters(), lr=0.1)


@pytest.mark.parametrize("name", UNITS)
def test_learners_by_name(name):
    pruner, base = made()
    optimizer = getattr(pruner, name)(base, groups=0.5, steps=STEPS, timing=TIMING)
    assert optimizer.method == UNITS[name]
    assert optimizer.base is base
    assert pruner.optimizer is optimizer


@pytest.mark.parametrize("name", MASKS)
def test_mask_methods_by_name(name):
    model = Perceptron()
    sparsifier = ap.Sparsifier(model, format="fan-in", sparsity=0.5)
    optimizer = getattr(sparsifier, name)(SGD(model.parameters(), lr=0.1), steps=100)
    assert optimizer.method == MASKS[name]


def test_all_are_listed():
    pruner, _ = made()
    sparsifier = ap.Sparsifier(pruner.model, format="csr")
    assert UNITS.keys() <= set(dir(pruner))
    assert MASKS.keys() <= set(dir(sparsifier))
    assert pruner.hesso.__doc__ == learners.HESSO.__doc__
    with pytest.raises(AttributeError, match="no attribute 'heso'; did you mean 'hesso'"):
        _ = pruner.heso
    with pytest.raises(AttributeError, match="methods of training are gmp, learnable"):
        _ = sparsifier.hesso


def test_one_class_makes_a_learner():
    try:

        @dataclass(frozen=True)
        class Smallest(learners.Method, name="smallest"):
            norm: int = 2

            def after(self, training):
                if training.schedule.begins_period(training.step):
                    norms = training.agreed(training.units.norms())
                    training.choose(training.target(norms), norms)

        pruner, base = made()
        optimizer = pruner.smallest(base, Smallest(norm=1), groups=0.5, steps=STEPS, timing=TIMING)
        assert optimizer.method.norm == 1
        train(pruner.model, optimizer)
        pruner.finish()
        with pytest.raises(
            ap.LearnerError, match="there is a method of training 'smallest' already"
        ):
            type("Other", (learners.Method,), {}, name="smallest")
    finally:
        learners.Method.named.forget("smallest")


class Bounded(Training):
    """Another kind of training: the weights of a network stay within bounds."""

    maker, unfinished, goal = "Binder", "bounds move", "bounds"
    device = torch.device("cpu")

    def __init__(self, *args):
        super().__init__(*args)
        self.held = list(self.model.named_parameters())

    @property
    def parameters(self):
        return iter(self.held)

    def revived(self):
        for name, p in self.parameters:
            if bool((p.abs() > self.method.bound).any()):
                yield "weights are out of bounds", name

    def kept(self):
        return {"names": [name for name, _ in self.parameters]}

    def fits(self, state):
        return state.get("names") == self.kept()["names"]

    def restore(self, state):
        pass


class BoundMethod(TrainingMethod[Bounded]):
    """The methods of this kind."""


@dataclass(frozen=True)
class Clamp(BoundMethod, name="clamp"):
    bound: ClassVar[float] = 0.25

    def after(self, training):
        for _, p in training.parameters:
            p.clamp_(-self.bound, self.bound)


class Binder(Session[Bounded]):
    _family, _made, _example = BoundMethod, "an optimizer", "binder.bind(optimizer, ...)"

    def __init__(self, model):
        self.model = model

    def bind(self, base, method):
        self._check(base)
        return self._begin(Bounded(method, base, self.model, TIMING.schedule(STEPS)))

    def finish(self):
        return self._finished().model


def test_another_kind_of_training():
    assert dict(BoundMethod.named) == {"clamp": Clamp}
    runs = []
    for interrupted in (None, 5):
        model = Perceptron()
        binder = Binder(model)
        with pytest.raises(ap.LearnerError, match="no optimizer was made"):
            binder.finish()
        optimizer = binder.bind(SGD(model.parameters(), lr=0.1), Clamp())
        assert isinstance(optimizer, SparseOptimizer)
        with pytest.raises(ap.LearnerError, match="this Binder has an optimizer already"):
            binder.bind(optimizer.base, Clamp())
        if interrupted:
            train(model, optimizer, steps=range(interrupted))
            checkpoint = state(model), optimizer.state_dict()
            model.load_state_dict(checkpoint[0])
            optimizer.load_state_dict(checkpoint[1])
            with pytest.raises(ap.LearnerError, match="5 of 24 steps, and bounds move until step"):
                binder.finish()
        train(model, optimizer, steps=range(interrupted or 0, STEPS))
        runs.append(state(binder.finish()))
    assert same(*runs)
    with torch.no_grad():
        model.head.weight.fill_(1.0)
    with pytest.raises(ap.LearnerError, match=r"out of bounds\n  where: head\.weight"):
        binder.finish()
    model.head = nn.Linear(8, 2)
    with pytest.raises(ap.LearnerError, match="parameters of the model were replaced"):
        binder.finish()


def test_what_is_saved_keeps_its_form():
    """Checkpoints of earlier versions load."""
    pruner, base = made()
    learner = pruner.hesso(base, groups=0.5, steps=STEPS, timing=TIMING).learner_state()
    assert learner.keys() == {
        "method", "target", "schedule", "step", "groups", "chosen", "zero", "weights"
    }  # fmt: skip
    assert learner["method"] == "HESSO()"
    assert learner["target"] == "groups=0.5"
    assert learner["schedule"] == "8-20 of 24 steps in 3 periods"
    sparsifier = ap.Sparsifier(pruner.model, format="csr", sparsity=0.75)
    mask = sparsifier.gmp(base, steps=STEPS, timing=TIMING).learner_state()
    assert mask.keys() == {
        "method", "target", "schedule", "step", "weights", "masks", "levels", "hidden", "memory"
    }  # fmt: skip
    assert mask["target"] == "sparsity=0.75 of csr"
    assert mask["schedule"] == (
        "Schedule(steps=24, start=8, length=4, periods=3, ramp=Polynomial(power=1.0))"
    )
    assert mask["weights"] == ["first.weight", "second.weight", "head.weight"]
