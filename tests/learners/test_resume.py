"""A run that was interrupted and resumed is the run that was not, bit by bit."""

from __future__ import annotations

import functools
import io

import pytest
import torch
from torch.optim import AdamW

import autoprune as ap
from autoprune.passes.learners import DHSPG, HESSO, GroupLasso, Timing
from tests.learners.training import (
    LAST_PERIOD,
    METHODS,
    START,
    STEPS,
    STOP,
    TIMING,
    Perceptron,
    learn,
    same,
    train,
    vectors,
)

INTERRUPTED = {
    "warm_up": 1,
    "trial": 4,  # CRIC's first cycle is steps 2 to 4, so its weights are on their way to zero
    "period": START + 2,
    "last_period": LAST_PERIOD + 1,
    "stopped": STOP + 1,
}


def new(method, seed=0):
    model = Perceptron(seed)
    pruner, optimizer = learn(method, AdamW(model.parameters(), lr=0.01), model, vectors(0)[0])
    return model, pruner, optimizer


def saved(model, optimizer) -> bytes:
    file = io.BytesIO()
    torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict()}, file)
    return file.getvalue()


def loaded(checkpoint: bytes):
    return torch.load(io.BytesIO(checkpoint), weights_only=True)


def outcome(model, optimizer):
    """Weights, statistics, the base optimizer's moments, and the learner's decisions."""
    course = optimizer.training
    moments = optimizer.base.state_dict()["state"]
    return {
        **model.state_dict(),
        **{f"{i}.{name}": value for i, own in moments.items() for name, value in own.items()},
        **course.memory,
        "chosen": course.chosen,
        "zero": course.zero,
    }


@functools.cache
def uninterrupted(name: str):
    """How a run ends, its history, and checkpoints of it by the step they were taken before."""
    model, pruner, optimizer = new(METHODS[name])
    checkpoints = {}
    for step in range(STEPS):
        if step in INTERRUPTED.values():
            checkpoints[step] = saved(model, optimizer)
        train(model, optimizer, steps=[step])
    return outcome(model, optimizer), pruner.history, checkpoints


@pytest.mark.parametrize("step", INTERRUPTED.values(), ids=INTERRUPTED)
@pytest.mark.parametrize("name", METHODS)
def test_resumed_is_uninterrupted(name, step):
    expected, history, checkpoints = uninterrupted(name)
    model, pruner, optimizer = new(METHODS[name], seed=1)
    checkpoint = loaded(checkpoints[step])
    model.load_state_dict(checkpoint["model"])
    optimizer.load_state_dict(checkpoint["optimizer"])
    assert optimizer.training.step == step
    train(model, optimizer, steps=range(step, STEPS))
    assert same(outcome(model, optimizer), expected)
    assert pruner.history == [record for record in history if record.step > step]


def test_the_small_network_is_the_same():
    _, _, checkpoints = uninterrupted("hesso")
    small = []
    for step in (START + 2, STOP + 1):
        model, pruner, optimizer = new(METHODS["hesso"], seed=1)
        checkpoint = loaded(checkpoints[step])
        model.load_state_dict(checkpoint["model"])
        optimizer.load_state_dict(checkpoint["optimizer"])
        train(model, optimizer, steps=range(step, STEPS))
        small.append(pruner.finish())
    assert small[0].plan == small[1].plan
    assert same(small[0].model.state_dict(), small[1].model.state_dict())


def test_trials_are_interrupted_in_these_tests():
    model, _, optimizer = new(METHODS["hesso_cric"])
    train(model, optimizer, steps=range(INTERRUPTED["trial"]))
    course = optimizer.training
    assert METHODS["hesso_cric"].pauses(course)
    assert course.memory["trying"].any()


def state_after(method, steps=START + 2):
    model, _, optimizer = new(method)
    train(model, optimizer, steps=range(steps))
    return optimizer.state_dict()


def test_the_state_of_another_method_is_refused():
    _, _, optimizer = new(HESSO())
    with pytest.raises(ap.LearnerError, match=r"method DHSPG\(.*this one has HESSO\(\)"):
        optimizer.load_state_dict(state_after(DHSPG()))


def test_the_state_of_other_settings_is_refused():
    _, _, optimizer = new(GroupLasso(strength=1e-3))
    with pytest.raises(ap.LearnerError, match=r"strength=0\.01.*strength=0\.001"):
        optimizer.load_state_dict(state_after(GroupLasso(strength=1e-2)))


def test_the_state_of_another_network_is_refused():
    model = torch.nn.Sequential(torch.nn.Linear(4, 6), torch.nn.Tanh(), torch.nn.Linear(6, 2))
    _, optimizer = learn(HESSO(), AdamW(model.parameters()), model, vectors(0)[0])
    with pytest.raises(ap.LearnerError, match="another network"):
        optimizer.load_state_dict(state_after(HESSO()))


@pytest.mark.parametrize(
    "target",
    [
        {"groups": 0.25, "steps": STEPS, "timing": TIMING},
        {"channels": 0.5, "steps": STEPS, "timing": TIMING},
        {"groups": 0.5, "steps": STEPS + 6, "timing": TIMING},
        {"groups": 0.5, "steps": STEPS, "timing": Timing(periods=2)},
    ],
    ids=["share", "cost", "steps", "timing"],
)
def test_the_state_of_another_target_is_refused(target):
    model = Perceptron()
    pruner = ap.Pruner(model, vectors(0)[0], multiple_of=1)
    optimizer = pruner.hesso(AdamW(model.parameters()), **target)
    with pytest.raises(ap.LearnerError, match="the state is that of a learner with"):
        optimizer.load_state_dict(state_after(HESSO()))


def test_the_state_of_an_optimizer_without_learner_is_refused():
    model, _, optimizer = new(HESSO())
    with pytest.raises(ap.LearnerError, match="without a learner"):
        optimizer.load_state_dict(AdamW(model.parameters()).state_dict())


def test_a_refused_state_changes_nothing():
    model, _, optimizer = new(HESSO())
    train(model, optimizer, steps=range(3))
    before = outcome(model, optimizer)
    with pytest.raises(ap.LearnerError):
        optimizer.load_state_dict(state_after(DHSPG()))
    assert optimizer.training.step == 3
    assert same(outcome(model, optimizer), before)


def quadratic():
    """Another object in every call, as functions are in every process."""

    def ramp(progress: float) -> float:
        return progress**2

    return ramp


def test_functions_among_the_settings_do_not_stop_a_run():
    state = state_after(GroupLasso(weighting="growing", ramp=quadratic()))
    _, _, optimizer = new(GroupLasso(weighting="growing", ramp=quadratic()))
    optimizer.load_state_dict(state)
    assert optimizer.training.step == START + 2
