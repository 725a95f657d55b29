"""What cannot be learned is refused, in words, and leaves everything as it was."""

from __future__ import annotations

import copy
from itertools import pairwise

import pytest
import torch
from torch import nn
from torch.optim import LBFGS, SGD, AdamW

import autoprune as ap
from autoprune.passes.learners import HESSO, HESSOCRIC, Timing
from tests.learners.training import (
    METHODS,
    START,
    STEPS,
    STOP,
    TIMING,
    Perceptron,
    learn,
    same,
    squared_error,
    train,
    vectors,
)

INPUTS, _ = vectors(0)


def made(**settings):
    model = Perceptron()
    return model, ap.Pruner(model, INPUTS, multiple_of=1, **settings)


def started(method=METHODS["hesso"], make=AdamW):
    model = Perceptron()
    pruner, optimizer = learn(method, make(model.parameters(), lr=0.01), model, INPUTS)
    return model, pruner, optimizer


def hesso(**target):
    model, pruner = made()
    return pruner.hesso(SGD(model.parameters(), lr=0.1), **{"steps": STEPS, **target})


@pytest.mark.parametrize("share", [1.0, 0.0, -0.5, 1.5, float("nan"), 50, "0.5"])
@pytest.mark.parametrize("cost", ["flops", "params", "memory", "channels", "groups"])
def test_a_share_out_of_range(cost, share):
    with pytest.raises(ap.BudgetError, match=cost):
        hesso(**{cost: share})


@pytest.mark.parametrize("target", [{}, {"flops": 0.5, "params": 0.5}], ids=["none", "two"])
def test_one_target_is_needed(target):
    with pytest.raises(ap.BudgetError, match=f"give one budget, not {len(target)}"):
        hesso(**target)


@pytest.mark.parametrize("target", [{"flops": 0.001}, {"params": 0.05}], ids=["flops", "params"])
def test_a_target_that_no_choice_of_units_meets(target):
    with pytest.raises(ap.BudgetError, match="cannot be reached"):
        hesso(**target)


def test_nothing_to_prune():
    model, pruner = made(ignore=["*"])
    with pytest.raises(ap.BudgetError, match="no group of units may shrink"):
        pruner.hesso(SGD(model.parameters(), lr=0.1), groups=0.5, steps=STEPS)


@pytest.mark.parametrize("steps", [0, -3, 24.0, "24", True, None])
def test_steps_that_are_no_number_of_steps(steps):
    with pytest.raises(ap.LearnerError, match="not a whole number from 1"):
        hesso(groups=0.5, steps=steps)


def test_steps_are_needed():
    model, pruner = made()
    with pytest.raises(ap.LearnerError, match="steps=None is not a whole number"):
        pruner.hesso(SGD(model.parameters(), lr=0.1), groups=0.5)


def test_a_misspelt_target():
    with pytest.raises(TypeError, match="unexpected keywords: periods"):
        hesso(groups=0.5, periods=5)


def test_too_few_steps_for_the_periods():
    with pytest.raises(ap.LearnerError, match="are left for 10 periods"):
        hesso(groups=0.5, steps=15)


@pytest.mark.parametrize(
    "timing",
    [
        Timing(start=0.6, stop=0.5),
        Timing(start=0.5, stop=0.5),
        Timing(start=-0.1),
        Timing(stop=1.1),
        Timing(periods=0),
        Timing(start=float("nan")),
    ],
    ids=str,
)
def test_a_timing_out_of_order(timing):
    with pytest.raises(ap.LearnerError, match="does not say when to prune"):
        hesso(groups=0.5, timing=timing)


def test_an_optimizer_that_lacks_parameters():
    model, pruner = made()
    some = [p for name, p in model.named_parameters() if "head" not in name]
    with pytest.raises(ap.LearnerError, match=r"lacks 2 of the model's parameters.*head\.weight"):
        pruner.hesso(SGD(some, lr=0.1), groups=0.5, steps=STEPS)
    # Nothing was begun: the right optimizer is taken.
    pruner.hesso(SGD(model.parameters(), lr=0.1), groups=0.5, steps=STEPS)


def test_the_optimizer_of_another_model():
    _, pruner = made()
    with pytest.raises(ap.LearnerError, match="lacks 8 of the model's parameters"):
        pruner.hesso(SGD(Perceptron().parameters(), lr=0.1), groups=0.5, steps=STEPS)


@pytest.mark.parametrize("base", [None, "adam", SGD, nn.Linear(2, 2)], ids=str)
def test_what_is_no_optimizer(base):
    _, pruner = made()
    with pytest.raises(ap.LearnerError, match=r"a torch\.optim\.Optimizer is needed"):
        pruner.hesso(base, groups=0.5, steps=STEPS)


def test_an_optimizer_that_has_a_learner():
    model, _, optimizer = started()
    with pytest.raises(ap.LearnerError, match="has a learner"):
        ap.Pruner(model, INPUTS).dhspg(optimizer, groups=0.5, steps=STEPS)


def test_a_second_learner():
    model, pruner, _ = started()
    with pytest.raises(ap.LearnerError, match="has a learner already"):
        pruner.dhspg(SGD(model.parameters(), lr=0.1), groups=0.5, steps=STEPS)


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_weights_that_are_not_finite(value):
    model = Perceptron()
    with torch.no_grad():
        model.second.weight[0, 0] = value
    pruner = ap.Pruner(model, INPUTS)
    with pytest.raises(ap.GraphError, match=r"second\.weight"):
        pruner.hesso(SGD(model.parameters(), lr=0.1), groups=0.5, steps=STEPS)


def everything(model, optimizer):
    """A copy of all that a step may change, as tensors."""
    course = optimizer.training
    moments = optimizer.base.state_dict()["state"]
    own = {"chosen": course.chosen, "zero": course.zero, "step": torch.tensor(course.step)}
    return copy.deepcopy(
        {**model.state_dict(), **course.memory, **own, **dict(tensors(moments, "base"))}
    )


def tensors(value, name):
    """The numbers in nested dictionaries and lists, by path."""
    if isinstance(value, dict | list):
        for key, entry in value.items() if isinstance(value, dict) else enumerate(value):
            yield from tensors(entry, f"{name}.{key}")
    elif value is not None:
        yield name, torch.as_tensor(value)


@pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)
def test_gradients_that_are_not_finite_change_nothing(method):
    model, _, optimizer = started(method)
    healthy, _, undisturbed = started(method)
    # Where CRIC tries units; where a period begins and within it; in the last step of pruning.
    for begin, step in pairwise((0, 3, START, START + 1, STOP - 1)):
        train(model, optimizer, steps=range(begin, step))
        train(healthy, undisturbed, steps=range(begin, step))
        before = everything(model, optimizer)
        squared_error(model.eval(), step).backward()
        model.train().second.weight.grad[0, 0] = torch.nan
        with pytest.raises(ap.LearnerError, match=f"gradients are not finite in step {step} "):
            optimizer.step()
        assert same(everything(model, optimizer), before)
    train(model, optimizer, steps=range(STOP - 1, STEPS))
    train(healthy, undisturbed, steps=range(STOP - 1, STEPS))
    assert same(everything(model, optimizer), everything(healthy, undisturbed))


@pytest.mark.parametrize("name", ["hspg", "hesso", "hesso_cric", "turbo_vbi"])
@pytest.mark.parametrize("make", [AdamW, LBFGS])
def test_a_loss_that_is_not_finite_changes_nothing(make, name):
    model, _, optimizer = started(METHODS[name], make)

    def closure():
        optimizer.zero_grad()
        loss = squared_error(model.eval(), 0) * worth
        loss.backward()
        return loss

    worth = 1.0
    for _ in range(3):
        optimizer.step(closure)
    before, worth = everything(model, optimizer), float("inf")
    with pytest.raises(ap.LearnerError, match=r"the loss is not finite in step 3 .*counted from 0"):
        optimizer.step(closure)
    assert same(everything(model, optimizer), before)


def test_finishing_before_anything_was_learned():
    _, pruner = made()
    with pytest.raises(ap.LearnerError, match="no learner was made"):
        pruner.finish()


@pytest.mark.parametrize("steps", [0, START, STOP - 1])
def test_finishing_too_early(steps):
    model, pruner, optimizer = started()
    train(model, optimizer, steps=range(steps))
    with pytest.raises(ap.LearnerError, match=f"{steps} of {STEPS} steps.*until step {STOP}"):
        pruner.finish()
    # The run goes on.
    train(model, optimizer, steps=range(steps, STEPS))
    pruner.finish()


def test_weights_that_were_changed_after_the_last_step():
    model, pruner, optimizer = started()
    train(model, optimizer)
    with torch.no_grad():
        model.first.weight.fill_(1.0)
    with pytest.raises(ap.LearnerError, match="have weights that are not zero any more"):
        pruner.finish()


def test_a_model_that_was_changed_while_it_trained():
    model, pruner, optimizer = started()
    train(model, optimizer)
    model.head = nn.Sequential(model.head, nn.Tanh())
    with pytest.raises(ap.TraceError, match="not the one that the Pruner was made for"):
        pruner.finish()


def test_a_weight_that_was_replaced_while_it_trained():
    """The optimizer and the learner then hold a tensor that the model has no more."""
    model, pruner, optimizer = started()
    train(model, optimizer, steps=range(STOP))
    model.second = nn.Linear(8, 8)
    train(model, optimizer, steps=range(STOP, STEPS))
    with pytest.raises(ap.LearnerError, match="parameters of the model were replaced"):
        pruner.finish()


def test_a_log_before_a_learner():
    _, pruner = made()
    with pytest.raises(ap.LearnerError, match="no learner was made yet"):
        pruner.log(loss=1.0)


def test_a_plot_of_nothing(tmp_path):
    _, pruner, _ = started()
    with pytest.raises(ap.AutopruneError, match="nothing to draw"):
        pruner.plot(tmp_path / "curves.png")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("curves.xyz", "cannot draw into 'xyz'"),
        ("curves", "cannot draw into 'a file without suffix'"),
        ("missing/curves.png", "cannot be written"),
    ],
)
def test_a_plot_that_cannot_be_written(tmp_path, name, message):
    model, pruner, optimizer = started()
    train(model, optimizer, steps=[0])
    with pytest.raises(ap.AutopruneError, match=message):
        pruner.plot(tmp_path / name)
    assert not list(tmp_path.iterdir())


def test_too_short_a_warm_up_for_trials():
    model, pruner = made()
    base, too_many = SGD(model.parameters(), lr=0.1), HESSOCRIC(samples=START + 1)
    optimizer = pruner.hesso_cric(base, too_many, groups=0.5, steps=STEPS, timing=TIMING)
    with pytest.raises(ap.LearnerError, match="too few to try units"):
        train(model, optimizer, steps=[0])


def test_distillation_without_a_teacher():
    _, pruner = made()
    with pytest.raises(ap.LearnerError, match="without a teacher"):
        pruner.distillation_loss()


def test_a_model_that_cannot_be_read():
    class Branch(nn.Linear):
        def forward(self, x):
            return super().forward(x) if x.sum() > 0 else x

    with pytest.raises(ap.TraceError):
        ap.Pruner(Branch(4, 4), INPUTS)


def test_more_steps_than_announced_train_on():
    model, pruner, optimizer = started(HESSO())
    train(model, optimizer, steps=range(STEPS + 5))
    assert int(optimizer.training.zero.sum()) == 8
    pruner.finish()
