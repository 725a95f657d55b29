"""An optimizer with a learner is used like the optimizer itself."""

from __future__ import annotations

import copy
import pickle
import warnings

import pytest
import torch
from torch import Tensor, nn
from torch.optim import LBFGS, SGD, AdamW, Optimizer, SparseAdam
from torch.optim import lr_scheduler as schedulers

import autoprune as ap
from autoprune.passes.learners import HESSO, HESSOCRIC, HSPG, Timing
from tests.learners.training import (
    METHODS,
    START,
    STEPS,
    TIMING,
    Perceptron,
    learn,
    same,
    squared_error,
    state,
    train,
    vectors,
)
from tests.tolerance import ROUNDING_DOUBLE

every_method = pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)


class Lion(Optimizer):
    """An optimizer that torch does not have: steps of the same size in every coordinate."""

    def __init__(self, params, lr: float, beta: float = 0.9) -> None:
        super().__init__(params, {"lr": lr, "beta": beta})

    @torch.no_grad()
    def step(self, closure=None):
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    mean = self.state[p].setdefault("mean", torch.zeros_like(p))
                    mean.lerp_(p.grad, 1 - group["beta"])
                    p.sub_(mean.sign(), alpha=group["lr"])
        return loss


def plain_steps(params):
    return SGD(params, lr=0.05)


def momentum(params, **options):
    return SGD(params, lr=0.05, momentum=0.9, **options)


def two_rates(params):
    first, *rest = params
    return SGD([{"params": rest}, {"params": [first], "lr": 0.01}], lr=0.05, momentum=0.9)


BASES = {
    "sgd": plain_steps,
    "nesterov": lambda params: momentum(params, nesterov=True, weight_decay=1e-3),
    "foreach": lambda params: momentum(params, foreach=True),
    "fused": lambda params: momentum(params, fused=True),
    "two_rates": two_rates,
    "adamw": lambda params: AdamW(params, lr=0.01),
    "adamw_fused": lambda params: AdamW(params, lr=0.01, fused=True),
    "tensor_rate": lambda params: AdamW(params, lr=torch.tensor(0.01), foreach=False),
    "third_party": lambda params: Lion(params, lr=0.003),
}
FEW = ("dhspg", "hesso", "importance")
"""Methods that act on weights after a step, on weights alone, and on gradients."""

few_methods = pytest.mark.parametrize("method", [METHODS[name] for name in FEW], ids=FEW)

PAIRS = {
    f"{method}-{base}": (METHODS[method], BASES[base])
    for method in METHODS
    for base in BASES
    if method in FEW or base in ("nesterov", "adamw")
}


def wrapped(method, make, model=None):
    model = Perceptron() if model is None else model
    inputs, _ = vectors(0, next(model.parameters()).dtype)
    return model, learn(method, make(model.parameters()), model, inputs)[1]


def assert_half_is_gone(optimizer):
    """The target is met: so many units are zero, and the others are not."""
    course = optimizer.training
    assert int(course.zero.sum()) == course.units.count // 2
    assert torch.equal(course.zero, course.chosen)
    assert not course.units.norms()[course.zero].any()
    assert course.units.norms()[~course.zero].all()


@pytest.mark.parametrize(("method", "make"), PAIRS.values(), ids=PAIRS)
def test_any_optimizer_meets_the_target(method, make):
    model, optimizer = wrapped(method, make)
    # Until units are tried or pruned, weights move as with the base alone; HSPG penalizes them.
    start = 2 if isinstance(method, HESSOCRIC) else START
    train(model, optimizer, steps=range(start))
    alone = Perceptron()
    train(alone, make(alone.parameters()), steps=range(start))
    assert same(model.state_dict(), alone.state_dict()) != isinstance(method, HSPG)
    train(model, optimizer, steps=range(start, STEPS))
    assert_half_is_gone(optimizer)


class Branches(nn.Module):
    """Two networks that share nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.pruned, self.left = Perceptron(0), Perceptron(1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.pruned(x), self.left(x)


def both_errors(model, step):
    x, y = vectors(step)
    return sum(nn.functional.mse_loss(output, y) for output in model(x))


@pytest.mark.parametrize("make", [BASES["nesterov"], BASES["adamw"]], ids=["nesterov", "adamw"])
@every_method
def test_what_may_not_shrink_trains_as_with_the_base_alone(method, make):
    model, alone = Branches(), Branches()
    base = make(model.parameters())
    trained = []
    base.register_step_post_hook(lambda *_: trained.append(step))
    _, optimizer = learn(method, base, model, vectors(0)[0], ignore=["left"])
    for step in range(STEPS):
        train(model, optimizer, both_errors, [step])
    train(alone, make(alone.parameters()), both_errors, trained)
    parameters = dict(alone.left.named_parameters())
    assert same(dict(model.left.named_parameters()), parameters)
    assert not same(parameters, dict(Branches().left.named_parameters()))
    assert len(trained) == STEPS or isinstance(method, HESSOCRIC)
    assert_half_is_gone(optimizer)


@pytest.mark.parametrize("make", [SGD, AdamW])
def test_loops_foreach_and_fused_agree(make):
    weights, gone = [], []
    for options in ({"foreach": False}, {"foreach": True}, {"fused": True}):
        model = Perceptron().double()
        _, optimizer = wrapped(METHODS["hesso"], lambda p, o=options: make(p, lr=0.01, **o), model)
        train(model, optimizer)
        weights.append(nn.utils.parameters_to_vector(model.parameters()))
        gone.append(optimizer.training.zero.tolist())
    assert gone[0] == gone[1] == gone[2]
    for other in weights[1:]:
        torch.testing.assert_close(other, weights[0], rtol=0, atol=ROUNDING_DOUBLE)


@every_method
def test_a_closure_gives_the_loss_and_the_same_steps(method):
    model, optimizer = wrapped(method, BASES["adamw"])
    plain, without = wrapped(method, BASES["adamw"])
    for step in range(STEPS):

        def closure(step=step):
            optimizer.zero_grad()
            loss = squared_error(model, step)
            loss.backward()
            return loss

        expected = squared_error(plain, step)
        without.zero_grad()
        expected.backward()
        assert without.step() is None
        assert optimizer.step(closure).item() == expected.item()
    assert same(model.state_dict(), plain.state_dict())


@every_method
def test_lbfgs(method):
    model, optimizer = wrapped(method, lambda p: LBFGS(p, lr=0.1, max_iter=3))
    calls = 0

    def closure():
        nonlocal calls
        calls += 1
        optimizer.zero_grad()
        loss = squared_error(model, 0)
        loss.backward()
        return loss

    losses = [optimizer.step(closure).item() for _ in range(STEPS)]
    assert calls > STEPS
    assert optimizer.training.step == STEPS
    assert losses[1] < losses[0]
    assert_half_is_gone(optimizer)


SCHEDULERS = {
    "one_cycle": lambda optimizer: schedulers.OneCycleLR(optimizer, 0.1, total_steps=STEPS + 1),
    "lambda": lambda optimizer: schedulers.LambdaLR(optimizer, lambda step: 1 / (1 + step)),
    "cosine": lambda optimizer: schedulers.CosineAnnealingLR(optimizer, STEPS),
}


SCHEDULED = {f"{name}-one_cycle": (m, SCHEDULERS["one_cycle"]) for name, m in METHODS.items()} | {
    f"hesso-{name}": (METHODS["hesso"], scheduler) for name, scheduler in SCHEDULERS.items()
}


@pytest.mark.parametrize(("method", "scheduler"), SCHEDULED.values(), ids=SCHEDULED)
def test_schedulers_of_the_base_or_of_the_wrapper(method, scheduler):
    runs = []
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for of_base in (False, True):
            model, optimizer = wrapped(method, momentum)
            schedule = scheduler(optimizer.base if of_base else optimizer)
            rates = []
            for step in range(STEPS):
                train(model, optimizer, steps=[step])
                schedule.step()
                rates.append(optimizer.param_groups[0]["lr"])
            assert len(set(rates)) == STEPS
            runs.append((rates, state(model)))
    assert runs[0][0] == runs[1][0]
    assert same(runs[0][1], runs[1][1])


def test_a_scheduler_when_the_first_step_is_a_trial():
    timing = Timing(start=0.25, stop=0.75, periods=2)
    model = Perceptron()
    pruner = ap.Pruner(model, vectors(0)[0])
    base = SGD(model.parameters(), lr=0.1)
    schedule = schedulers.StepLR(base, 1)
    method = HESSOCRIC(cycles=2, samples=3)
    optimizer = pruner.hesso_cric(base, method, groups=0.5, steps=STEPS, timing=timing)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        train(model, optimizer, steps=[0])
        schedule.step()


@every_method
def test_a_learning_rate_of_zero(method):
    model, optimizer = wrapped(method, momentum)
    before = dict(state(model))
    for group in optimizer.param_groups:
        group["lr"] = 0.0
    train(model, optimizer)
    assert_half_is_gone(optimizer)
    assert torch.equal(model.head.bias, before["head.bias"])
    stays = ~optimizer.training.zero[:8]
    assert torch.equal(model.first.weight[stays], before["first.weight"][stays])


@every_method
def test_accumulated_gradients_are_one_step(method):
    runs = []
    for parts in (1, 4):
        model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 2)).double()
        with torch.no_grad():
            for i, p in enumerate(model.parameters()):
                p.normal_(generator=torch.Generator().manual_seed(i))
        _, optimizer = learn(
            method, momentum(model.parameters()), model, vectors(0, torch.float64)[0]
        )
        for step in range(STEPS):
            x, y = vectors(step, torch.float64)
            optimizer.zero_grad()
            for a, b in zip(x.chunk(parts), y.chunk(parts), strict=True):
                (nn.functional.mse_loss(model(a), b) / parts).backward()
            optimizer.step()
        assert optimizer.training.step == STEPS
        assert_half_is_gone(optimizer)
        runs.append((optimizer.training.zero, nn.utils.parameters_to_vector(model.parameters())))
    assert torch.equal(runs[0][0], runs[1][0])
    torch.testing.assert_close(runs[0][1], runs[1][1], rtol=0, atol=ROUNDING_DOUBLE)


@every_method
def test_steps_that_a_gradient_scaler_skips_do_not_count(method):
    """Scaling by powers of two is exact: what is left is the run without the skipped batches."""
    broken = {1, 5, 13}
    model, optimizer = wrapped(method, BASES["adamw_fused"])
    plain, without = wrapped(method, BASES["adamw_fused"])
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10)
    for step in range(STEPS + len(broken)):
        optimizer.zero_grad()
        loss = squared_error(model, step)
        scaler.scale(loss * torch.inf if step in broken else loss).backward()
        scaler.step(optimizer)
        scaler.update()
        if step not in broken:
            train(plain, without, steps=[step])
    assert optimizer.training.step == STEPS
    assert scaler.get_scale() == 2.0**7
    assert same(dict(model.named_parameters()), dict(plain.named_parameters()))
    assert_half_is_gone(optimizer)


@few_methods
def test_autocast(method):
    def loss(model, step):
        x, y = vectors(step)
        with torch.autocast("cpu", torch.bfloat16):
            output = model(x)
        assert output.dtype == torch.bfloat16
        return nn.functional.mse_loss(output.float(), y)

    model, optimizer = wrapped(method, momentum)
    train(model, optimizer, loss)
    assert model.first.weight.dtype == torch.float32
    assert_half_is_gone(optimizer)


@every_method
def test_half_precision_parameters(method):
    model = Perceptron().bfloat16()
    inputs, _ = vectors(0, torch.bfloat16)
    pruner, optimizer = learn(method, BASES["adamw"](model.parameters()), model, inputs)
    train(model, optimizer)
    assert_half_is_gone(optimizer)
    assert {p.dtype for p in pruner.finish().model.parameters()} == {torch.bfloat16}


class Factors(nn.Module):
    """How well a user and an item match: two tables with sparse gradients."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.users, self.items = (nn.Embedding(20, 8, sparse=True) for _ in range(2))

    def forward(self, pairs: Tensor) -> Tensor:
        return (self.users(pairs[:, 0]) * self.items(pairs[:, 1])).sum(-1)


SPARSE = {f"{name}-adam": (method, SparseAdam) for name, method in METHODS.items()} | {
    f"{name}-sgd": (METHODS[name], plain_steps) for name in FEW
}


@pytest.mark.parametrize(("method", "make"), SPARSE.values(), ids=SPARSE)
def test_sparse_gradients(method, make):
    def loss(model, step):
        pairs = torch.randint(20, (16, 2), generator=torch.Generator().manual_seed(step))
        return nn.functional.mse_loss(model(pairs), (pairs[:, 0] > pairs[:, 1]).float())

    model = Factors()
    pairs = torch.tensor([[0, 1], [2, 3], [4, 5]])
    pruner, optimizer = learn(method, make(model.parameters()), model, pairs)
    train(model, optimizer, loss)
    assert model.users.weight.grad.is_sparse
    assert_half_is_gone(optimizer)
    assert pruner.finish().model.users.weight.shape == (20, 4)


class Unused(nn.Module):
    """One output is not trained, one layer is never called, one parameter is empty."""

    def __init__(self) -> None:
        super().__init__()
        self.used, self.untrained, self.spare = Perceptron(0), Perceptron(1), nn.Linear(3, 3)
        self.nothing = nn.Parameter(torch.zeros(0))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.used(x), self.untrained(x)


@every_method
def test_parameters_that_never_get_a_gradient(method):
    def loss(model, step):
        x, y = vectors(step)
        return nn.functional.mse_loss(model(x)[0], y) + model.nothing.sum()

    model = Unused()
    spare = model.spare.weight.detach().clone()
    _, optimizer = learn(method, momentum(model.parameters()), model, vectors(0)[0])
    train(model, optimizer, loss)
    assert model.untrained.head.weight.grad is None
    assert torch.equal(model.spare.weight, spare)
    assert_half_is_gone(optimizer)


class Tied(nn.Module):
    """An embedding that is the output layer too, and a layer that is called twice."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.table, self.twice = nn.Embedding(12, 8), nn.Linear(8, 8)
        self.head = nn.Linear(8, 12, bias=False)
        self.head.weight = self.table.weight

    def forward(self, tokens: Tensor) -> Tensor:
        return self.head(self.twice(self.twice(self.table(tokens)).relu()).relu())


@every_method
def test_tied_weights(method):
    def loss(model, step):
        tokens = torch.randint(12, (32,), generator=torch.Generator().manual_seed(step))
        return nn.functional.cross_entropy(model(tokens), (tokens + 1) % 12)

    model = Tied()
    pruner, optimizer = learn(method, BASES["adamw"](model.parameters()), model, torch.arange(6))
    train(model, optimizer, loss)
    assert_half_is_gone(optimizer)
    small = pruner.finish().model
    assert small.head.weight is small.table.weight
    assert small.table.weight.shape == (12, 4)


@few_methods
def test_frozen_parameters_stay_and_their_groups_say_why(method):
    model = Perceptron()
    model.second.weight.requires_grad_(False)
    model.second.bias.requires_grad_(False)
    before = state(model.second)
    # The frozen layer reads one group of the perceptron and makes the other; two groups are before.
    model = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4), model)
    trained = [p for p in model.parameters() if p.requires_grad]
    pruner, optimizer = learn(method, momentum(trained), model, vectors(0)[0])
    train(model, optimizer)
    assert same(model[3].second.state_dict(), before)
    rows = pruner.finish().report.groups
    frozen = [row for row in rows if any("second" in place for place in row.where)]
    assert len(frozen) == 2
    for row in frozen:
        assert row.kept == row.units
        assert "second" in row.reason
        assert "frozen" in row.reason
    assert sum(row.units - row.kept for row in rows) == 4


def test_hooks_see_the_step_that_was_done():
    model, optimizer = wrapped(HESSO(), momentum)
    calls = []

    def before(optimizer, args, kwargs):
        calls.append(("before", optimizer.training.step))

    def after(optimizer, args, kwargs):
        gone = optimizer.training.zero
        calls.append(("after", bool(optimizer.training.units.norms()[gone].any())))

    optimizer.register_step_pre_hook(before)
    handle = optimizer.register_step_post_hook(after)
    train(model, optimizer, steps=range(STEPS - 1))
    assert calls == [
        entry for step in range(STEPS - 1) for entry in (("before", step), ("after", False))
    ]
    handle.remove()
    train(model, optimizer, steps=[STEPS - 1])
    assert calls[-1] == ("before", STEPS - 1)


def test_hooks_of_the_base_still_run():
    model = Perceptron()
    base = momentum(model.parameters())
    calls = []
    base.register_step_post_hook(lambda *_: calls.append(1))
    _, optimizer = learn(HESSO(), base, model, vectors(0)[0])
    train(model, optimizer)
    assert len(calls) == STEPS


def test_it_is_an_optimizer():
    model, optimizer = wrapped(HESSO(), momentum)
    assert isinstance(optimizer, Optimizer)
    assert optimizer.param_groups is optimizer.base.param_groups
    assert optimizer.defaults["momentum"] == 0.9
    assert "HESSO()" in repr(optimizer)
    assert "momentum: 0.9" in repr(optimizer)
    squared_error(model, 0).backward()
    assert model.head.weight.grad is not None
    optimizer.zero_grad(set_to_none=False)
    assert not model.head.weight.grad.any()
    optimizer.zero_grad()
    assert model.head.weight.grad is None


def test_more_parameters_later():
    model, optimizer = wrapped(HESSO(), momentum)
    added = nn.Parameter(torch.ones(3))
    optimizer.add_param_group({"params": [added], "lr": 0.5})
    train(model, optimizer, lambda model, step: squared_error(model, step) + added.sum())
    assert (added < 0).all()
    assert_half_is_gone(optimizer)


@pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy, pickle.dumps])
def test_copies_are_refused(duplicate):
    _, optimizer = wrapped(HESSO(), momentum)
    with pytest.raises(ap.LearnerError, match="cannot be copied or pickled"):
        duplicate(optimizer)


def test_the_parts_of_a_run_are_where_these_tests_think():
    schedule = TIMING.schedule(STEPS)
    assert (schedule.start, schedule.length, schedule.periods) == (START, 4, 3)
