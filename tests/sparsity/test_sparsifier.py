"""A network that becomes sparse while it trains, around any optimizer."""

from __future__ import annotations

import functools
import io

import pytest
import torch
from torch import nn
from torch.optim import LBFGS, SGD, AdamW
from torch.optim.lr_scheduler import OneCycleLR

import autoprune as ap
from autoprune.passes.learners.masks import GMP, SRSTE, Learnable, MaskMethod, SRigL, Timing
from tests.learners.training import same, state
from tests.sparsity.networks import Convolutional, mlp
from tests.tolerance import DIFFERENT

STEPS = 24
TIMING = Timing(start=1 / 4, stop=3 / 4, periods=3)
START, STOP = 6, 18

METHODS = {
    "gmp": (GMP(), "block 4x1"),
    "sr_ste": (SRSTE(), "2:4"),
    "sr_ste_progressive": (SRSTE(progressive=True), "1:4 shared 4"),
    "srigl": (SRigL(), "fan-in"),
    "learnable": (Learnable(), "block 4x1"),
    "learnable_n_m": (Learnable(), "2:8"),
}
every_method = pytest.mark.parametrize("name", METHODS)


def small(seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(16, 24), nn.BatchNorm1d(24), nn.ReLU(), nn.Linear(24, 8))


def adamw(params):
    return AdamW(params, lr=0.01)


def loss_of(model, step):
    rng = torch.Generator().manual_seed(step)
    x = torch.randn(32, 16, generator=rng).to(next(model.parameters()))
    return (model(x) - x[:, :8] * x[:, 8:]).square().mean()


def started(name, make=adamw, seed=0, model=None):
    model = small(seed) if model is None else model
    method, format = METHODS[name]
    sparsity = None if ":" in format else 0.75
    sparsifier = ap.Sparsifier(model, torch.zeros(2, 16), format=format, sparsity=sparsity)
    optimizer = sparsifier.train(make(model.parameters()), method, steps=STEPS, timing=TIMING)
    return model, sparsifier, optimizer


def train(model, optimizer, steps=range(STEPS)):
    for step in steps:
        optimizer.zero_grad()
        loss_of(model, step).backward()
        optimizer.step()


def assert_finished(model, sparsifier):
    """Masks are of the format, as sparse as asked for, and weights zero where they say."""
    result = sparsifier.finish()
    for weight, row in zip(sparsifier.optimizer.training.weights, result.report.rows, strict=True):
        mask = result.masks[weight.name]
        assert weight.format.fits(weight.matrix(mask).numpy()) is None
        copied = result.model.get_parameter(weight.name)
        assert not copied[~mask].any()
        assert copied[mask].any()
        levels = weight.format.levels(weight.shape)
        if sparsifier.optimizer.method == SRigL():
            inputs = weight.matrix(mask).sum(1)
            (fan_in,) = set(inputs[inputs > 0].tolist())
            outputs, wanted = int((inputs > 0).sum()), round(0.25 * weight.shape[1])
            assert abs(fan_in * outputs - wanted * weight.shape[0]) <= outputs / 2
        elif levels is not None:
            assert row.sparsity == pytest.approx(0.75, abs=0.02)
    assert same(state(result.model), state(model))
    assert result.model is not model
    return result


BASES = {
    "momentum": lambda p: SGD(p, lr=0.05, momentum=0.9, nesterov=True, weight_decay=1e-3),
    "adamw": adamw,
    "fused": lambda p: AdamW(p, lr=0.01, fused=True),
    "foreach": lambda p: AdamW(p, lr=0.01, foreach=True),
}


@pytest.mark.parametrize("make", BASES.values(), ids=BASES)
@every_method
def test_any_optimizer(name, make):
    model, sparsifier, optimizer = started(name, make)
    train(model, optimizer)
    assert_finished(model, sparsifier)


@every_method
def test_until_masks_are_looked_for_nothing_is_different(name):
    model, _, optimizer = started(name)
    plain = small()
    train(model, optimizer, range(START))
    train(plain, adamw(plain.parameters()), range(START))
    assert same(state(model), state(plain))


@every_method
def test_what_may_not_become_sparse_is_trained_by_the_base_alone(name):
    method, format = METHODS[name]
    model = nn.ModuleList([small(), small()])
    sparsifier = ap.Sparsifier(model, format=format, ignore="1")
    optimizer = sparsifier.train(adamw(model.parameters()), method, steps=STEPS, timing=TIMING)
    plain = small()
    base = adamw(plain.parameters())
    for step in range(STEPS):
        optimizer.zero_grad()
        (loss_of(model[0], step) + loss_of(model[1], step)).backward()
        optimizer.step()
        train(plain, base, [step])
    assert same(state(model[1]), state(plain))
    assert not same(state(model[0]), state(plain))


@every_method
def test_a_closure_makes_the_same_steps(name):
    model, _, optimizer = started(name)
    plain, _, without = started(name)
    for step in range(STEPS):

        def closure(step=step):
            optimizer.zero_grad()
            loss = loss_of(model, step)
            loss.backward()
            return loss

        expected = loss_of(plain, step)
        without.zero_grad()
        expected.backward()
        assert without.step() is None
        assert optimizer.step(closure).item() == expected.item()
    parameters = dict(plain.named_parameters())
    assert same(dict(model.named_parameters()), parameters)


@every_method
def test_lbfgs(name):
    model, sparsifier, optimizer = started(name, lambda p: LBFGS(p, lr=0.1, max_iter=3))

    def closure():
        optimizer.zero_grad()
        loss = loss_of(model, 0)
        loss.backward()
        return loss

    losses = [optimizer.step(closure).item() for _ in range(STEPS)]
    assert losses[START] < losses[0]
    assert_finished(model, sparsifier)


@every_method
def test_gradient_scalers_and_schedulers(name):
    model, sparsifier, optimizer = started(name)
    plain, _, without = started(name)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10)
    schedule = OneCycleLR(optimizer, 0.02, total_steps=STEPS + 1)
    other = OneCycleLR(without.base, 0.02, total_steps=STEPS + 1)
    for step in range(STEPS):
        optimizer.zero_grad()
        scaler.scale(loss_of(model, step)).backward()
        scaler.step(optimizer)
        scaler.update()
        schedule.step()
        train(plain, without, [step])
        other.step()
    assert same(dict(model.named_parameters()), dict(plain.named_parameters()))
    assert_finished(model, sparsifier)


@every_method
def test_half_precision(name):
    model, sparsifier, optimizer = started(name, model=small().bfloat16())
    train(model, optimizer)
    result = assert_finished(model, sparsifier)
    assert {p.dtype for p in result.model.parameters()} == {torch.bfloat16}


def test_convolutions_in_another_memory_format():
    runs = []
    for layout in (torch.contiguous_format, torch.channels_last):
        model = Convolutional().to(memory_format=layout)
        sparsifier = ap.Sparsifier(model, format={"stem": "2:4", "project": "block 8x1"})
        optimizer = sparsifier.sr_ste(SGD(model.parameters(), lr=0.01), steps=STEPS, timing=TIMING)
        for step in range(STEPS):
            rng = torch.Generator().manual_seed(step)
            x = torch.randn(2, 3, 8, 8, generator=rng).contiguous(memory_format=layout)
            optimizer.zero_grad()
            model(x).square().mean().backward()
            optimizer.step()
        runs.append(sparsifier.finish())
    assert same(runs[0].masks, runs[1].masks)


def outcome(model, optimizer):
    training = optimizer.training
    moments = optimizer.base.state_dict()["state"]
    return {
        **state(model),
        **{f"{i}.{key}": value for i, own in moments.items() for key, value in own.items()},
        **{f"mask{i}": mask for i, mask in enumerate(training.masks)},
        **{f"hidden{i}": hidden for i, hidden in enumerate(training.hidden)},
        **{f"{key}{i}": t for key, own in training.memory.items() for i, t in enumerate(own)},
    }


@functools.cache
def uninterrupted(name):
    model, _, optimizer = started(name)
    checkpoints = {}
    for step in range(STEPS):
        file = io.BytesIO()
        torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict()}, file)
        checkpoints[step] = file.getvalue()
        train(model, optimizer, [step])
    return outcome(model, optimizer), checkpoints


@pytest.mark.parametrize("step", [2, START, START + 1, 10, STOP - 1, STOP, STOP + 2])
@every_method
def test_resumed_is_uninterrupted(name, step):
    expected, checkpoints = uninterrupted(name)
    model, _, optimizer = started(name, seed=1)
    checkpoint = torch.load(io.BytesIO(checkpoints[step]), weights_only=True)
    model.load_state_dict(checkpoint["model"])
    optimizer.load_state_dict(checkpoint["optimizer"])
    assert optimizer.training.step == step
    train(model, optimizer, range(step, STEPS))
    assert same(outcome(model, optimizer), expected)


@pytest.mark.parametrize("step", [START + 3, STOP + 1])
@every_method
def test_gradients_that_are_not_finite_change_nothing(name, step):
    model, _, optimizer = started(name)
    healthy, _, undisturbed = started(name)
    train(model, optimizer, range(step))
    train(healthy, undisturbed, range(step))
    before = outcome(model, optimizer)
    loss_of(model.eval(), step).backward()
    model.train()[3].weight.grad[0, 0] = torch.nan
    with pytest.raises(ap.LearnerError, match=f"gradients are not finite in step {step} "):
        optimizer.step()
    assert same(outcome(model, optimizer), before)
    train(model, optimizer, range(step, STEPS))
    train(healthy, undisturbed, range(step, STEPS))
    assert same(outcome(model, optimizer), outcome(healthy, undisturbed))


@every_method
def test_a_loss_that_is_not_finite_changes_nothing(name):
    model, _, optimizer = started(name)
    train(model, optimizer, range(START + 3))
    before = outcome(model, optimizer)

    def closure():
        optimizer.zero_grad()
        loss = loss_of(model.eval(), 0) * float("inf")
        loss.backward()
        return loss

    with pytest.raises(ap.LearnerError, match="the loss is not finite"):
        optimizer.step(closure)
    assert same(outcome(model, optimizer), before)


def test_a_result_of_prune_is_trained_further(tmp_path):
    model, x = mlp()
    pruned = ap.prune(model, x[:4], channels=0.5, multiple_of=32)
    sparsifier = ap.Sparsifier(pruned, format="block 16x1", ignore="4")
    optimizer = sparsifier.gmp(adamw(pruned.model.parameters()), steps=STEPS)
    for _ in range(STEPS):
        optimizer.zero_grad()
        (pruned.model(x) - model(x).detach()).square().mean().backward()
        optimizer.step()
    result = sparsifier.finish()
    assert result.report.sparsity == pytest.approx(0.8, abs=0.01)
    result.save(tmp_path / "sparse.onnx")
    again = ap.load(model, result.save(tmp_path / "sparse.safetensors"))
    assert same(state(again), state(result.model))


def test_frozen_weights_stay_dense():
    model = small()
    model[3].weight.requires_grad_(False)
    sparsifier = ap.Sparsifier(model, format="csr")
    optimizer = sparsifier.gmp(adamw(model.parameters()), steps=STEPS)
    train(model, optimizer)
    result = sparsifier.finish()
    assert list(result.masks) == ["0.weight"]
    assert result.report.reasons == {"3.weight": "it is frozen"}


class Largest(MaskMethod):
    """A method of a user's: the largest weights, once."""

    def after(self, training):
        if training.step + 1 == training.schedule.stop:
            scores = [training.values(i).abs() for i in range(len(training.weights))]
            training.set_levels(1.0, scores)
            training.choose(scores)


def test_a_method_of_ones_own():
    model = small()
    sparsifier = ap.Sparsifier(model, format="csr", sparsity=0.5, distribution="global")
    optimizer = sparsifier.train(adamw(model.parameters()), Largest(), steps=STEPS)
    train(model, optimizer)
    assert sparsifier.finish().report.sparsity == pytest.approx(0.5, abs=DIFFERENT)


def gmp(steps=STEPS, timing=TIMING, make=adamw, **settings):
    model = small()
    return ap.Sparsifier(model, **{"format": "csr", **settings}).gmp(
        make(model.parameters()), steps=steps, timing=timing
    )


@pytest.mark.parametrize("steps", [0, -1, 24.0, "24", True, None])
def test_steps_that_are_no_number(steps):
    with pytest.raises(ap.LearnerError, match="not a whole number from 1"):
        gmp(steps=steps)


BAD = [
    ({"steps": 3}, ap.LearnerError, "are left for 3 periods"),
    ({"timing": Timing(start=0.9, stop=0.1)}, ap.LearnerError, "does not say when"),
    ({"sparsity": 1.5}, ap.BudgetError, "not a fraction"),
    ({"format": "2:4", "sparsity": 0.5}, ap.BudgetError, "says itself"),
    ({"format": "block 64x1"}, ap.FormatError, "24 x 16 is smaller than 64 x 1"),
    ({"distribution": "even"}, ap.BudgetError, "no distribution"),
    ({"ignore": "nine"}, ap.AutopruneError, "matches no module"),
    ({"ignore": 9}, ap.AutopruneError, "takes names, not int"),
    ({"make": lambda p: SGD(list(p)[:1], lr=0.1)}, ap.LearnerError, "lacks 5 of the model's"),
    ({"make": lambda p: "sgd"}, ap.LearnerError, "a torch.optim.Optimizer is needed"),
]


@pytest.mark.parametrize(("settings", "error", "message"), BAD)
def test_bad_input(settings, error, message):
    with pytest.raises(error, match=message):
        gmp(**settings)


@pytest.mark.parametrize(
    ("make", "settings"),
    [
        (SRSTE, {"decay": -1e-3}),
        (SRSTE, {"decay": float("nan")}),
        (SRigL, {"fraction": 1.5}),
        (SRigL, {"saliency": -0.1}),
        (Learnable, {"temperature": (1.0, 0.0)}),
        (Learnable, {"rate": 0.0}),
    ],
)
def test_settings_out_of_range(make, settings):
    with pytest.raises(ap.LearnerError):
        make(**settings)


def test_a_single_block_stays():
    model = nn.Sequential(nn.Linear(1, 4), nn.Linear(4, 4))
    sparsifier = ap.Sparsifier(model, format="block 4x1", sparsity=0.5)
    optimizer = sparsifier.learnable(adamw(model.parameters()), steps=20)
    for _ in range(20):
        optimizer.zero_grad()
        (model(torch.ones(2, 1)) - 1).square().mean().backward()
        optimizer.step()
    masks = sparsifier.finish().masks
    assert masks["0.weight"].all()
    assert int(masks["1.weight"].sum()) == 8


def test_methods_refuse_formats_they_are_not_for():
    model = small()
    with pytest.raises(ap.LearnerError, match="keeps a constant fan-in, not the format csr"):
        ap.Sparsifier(model, format="csr").srigl(adamw(model.parameters()), steps=100)


def test_weights_that_are_not_finite():
    model = small()
    with torch.no_grad():
        model[3].weight[0, 0] = torch.nan
    with pytest.raises(ap.GraphError, match=r"3\.weight"):
        ap.Sparsifier(model, format="csr").gmp(adamw(model.parameters()), steps=STEPS)


def test_one_optimizer_each():
    model, sparsifier, optimizer = started("gmp")
    with pytest.raises(ap.LearnerError, match="has an optimizer already"):
        sparsifier.gmp(adamw(model.parameters()), steps=STEPS)
    other = ap.Sparsifier(model, format="csr")
    with pytest.raises(ap.LearnerError, match="has a learner already"):
        other.gmp(optimizer, steps=STEPS)


def test_finishing_too_early_or_without_training():
    model, sparsifier, optimizer = started("gmp")
    with pytest.raises(ap.LearnerError, match="no optimizer was made"):
        ap.Sparsifier(model, format="csr").finish()
    train(model, optimizer, range(STOP - 1))
    with pytest.raises(ap.LearnerError, match=f"{STOP - 1} of {STEPS} steps.*until step {STOP}"):
        sparsifier.finish()
    train(model, optimizer, range(STOP - 1, STEPS))
    sparsifier.finish()


def test_weights_that_were_changed_after_the_last_step():
    model, sparsifier, optimizer = started("sr_ste")
    train(model, optimizer)
    with torch.no_grad():
        model[0].weight.fill_(1.0)
    with pytest.raises(ap.LearnerError, match="are not zero any more"):
        sparsifier.finish()
    model[0] = nn.Linear(16, 24)
    with pytest.raises(ap.LearnerError, match="were replaced"):
        sparsifier.finish()


def test_states_of_others_are_refused():
    _, _, optimizer = started("gmp")
    _, _, other = started("sr_ste")
    before = optimizer.training.step
    with pytest.raises(ap.LearnerError, match=r"method SRSTE\(.*this one has GMP\("):
        optimizer.load_state_dict(other.state_dict())
    with pytest.raises(ap.LearnerError, match="without a learner"):
        optimizer.load_state_dict(adamw(small().parameters()).state_dict())
    tall = nn.Sequential(nn.Linear(16, 48))
    third = ap.Sparsifier(tall, format="block 4x1").gmp(adamw(tall.parameters()), steps=STEPS)
    with pytest.raises(ap.LearnerError, match="another network"):
        third.load_state_dict(optimizer.state_dict())
    assert optimizer.training.step == before
