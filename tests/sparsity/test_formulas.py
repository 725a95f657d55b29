"""Single steps of the methods against the formulas of their papers."""

from itertools import pairwise

import pytest
import torch
from torch import nn

import autoprune as ap
from autoprune.passes.learners.masks import GMP, SRSTE, Learnable, Polynomial, SRigL, Timing
from tests.tolerance import ROUNDING_DOUBLE


def layer(rows=8, cols=16, seed=0):
    rng = torch.Generator().manual_seed(seed)
    model = nn.Linear(cols, rows, bias=False).double()
    with torch.no_grad():
        model.weight.copy_(torch.randn(rows, cols, generator=rng))
    return model


def batch(step, cols=16):
    return torch.randn(4, cols, generator=torch.Generator().manual_seed(step)).double()


def backward(model, optimizer, step):
    optimizer.zero_grad()
    model(batch(step)).square().sum().backward()


def test_gmp_follows_equation_1():
    model = layer()
    sparsifier = ap.Sparsifier(model, format="csr", sparsity=0.75)
    timing = Timing(start=0.1, stop=0.9, periods=4, ramp=Polynomial(3))
    optimizer = sparsifier.gmp(
        torch.optim.SGD(model.parameters(), lr=1e-3), steps=20, timing=timing
    )
    for step in range(20):
        backward(model, optimizer, step)
        optimizer.step()
        steps = min(max((step + 1 - 2) // 4, 0), 4)  # t0 = 2, dt = 4, n = 4
        wanted = 0.75 * (1 - (1 - steps / 4) ** 3)
        # To half a weight.
        assert abs(int((model.weight == 0).sum()) - wanted * 128) <= 0.5


@pytest.mark.parametrize("name", ["2:8", "fan-in 2"])
def test_formats_without_a_sparsity_are_approached_too(name):
    model = layer()
    optimizer = ap.Sparsifier(model, format=name).gmp(
        torch.optim.SGD(model.parameters(), lr=1e-3),
        steps=6,
        timing=Timing(start=0, stop=1, periods=6),
    )
    kept = []
    for step in range(6):
        backward(model, optimizer, step)
        optimizer.step()
        kept.append(int((model.weight != 0).sum()))
    group = 8 if ":" in name else 16
    steps = [group - (group - 2) * n // 6 for n in range(1, 7)]
    assert kept == [128 * n // group for n in steps]


def test_sr_ste_is_equation_9():
    model = layer()
    rate, decay = 0.01, 0.1
    optimizer = ap.Sparsifier(model, format="2:4").sr_ste(
        torch.optim.SGD(model.parameters(), lr=rate),
        SRSTE(decay=decay),
        steps=8,
        timing=Timing(start=0, stop=1, periods=1),
    )
    backward(model, optimizer, 0)
    optimizer.step()  # the first masks
    dense = optimizer.training.hidden[0].clone()
    mask = optimizer.training.masks[0].clone()
    for step in range(1, 7):
        torch.testing.assert_close(model.weight, dense * mask, rtol=0, atol=ROUNDING_DOUBLE)
        backward(model, optimizer, step)
        gradient = model.weight.grad.clone()
        optimizer.step()
        dense = dense - rate * (gradient + decay * ~mask * dense)
        torch.testing.assert_close(
            optimizer.training.hidden[0], dense, rtol=0, atol=ROUNDING_DOUBLE
        )
        mask = optimizer.training.masks[0].clone()
        groups = dense.abs().reshape(8, 4, 4)
        assert torch.equal(mask.reshape(8, 4, 4), groups >= groups.topk(2).values[..., -1:])


def test_learnable_scores_get_the_gradient_that_autograd_gives_them():
    model = layer()
    method = Learnable(noise=0.3)
    optimizer = ap.Sparsifier(model, format="2:8 shared 2").learnable(
        torch.optim.SGD(model.parameters(), lr=0.01),
        method,
        steps=8,
        timing=Timing(start=0, stop=1, periods=1),
    )
    for step in range(3):
        backward(model, optimizer, step)
        optimizer.step()
    training = optimizer.training
    backward(model, optimizer, 3)
    slope = method._slope(training, 0)
    score = training.memory["scores"][0]
    index, size = (1, 3), 1e-5

    def loss():
        training.cache.clear()
        gate = method.gates(training)[0]
        weight = training.hidden[0] * gate
        return nn.functional.linear(batch(3), weight).square().sum().item()

    score[index] += size
    above = loss()
    score[index] -= 2 * size
    below = loss()
    score[index] += size
    assert (above - below) / (2 * size) == pytest.approx(slope[index].item(), rel=1e-3)


def trained_by_srigl(name, sparsity, method, steps=40, periods=8):
    model = layer(16, 32)
    optimizer = ap.Sparsifier(model, format=name, sparsity=sparsity).srigl(
        torch.optim.SGD(model.parameters(), lr=1e-3),
        method,
        steps=steps,
        timing=Timing(start=0, stop=0.8, periods=periods),
    )
    seen = []
    for step in range(steps):
        optimizer.zero_grad()
        x = batch(step, 32)
        # Only some inputs matter, so that there is something to exchange.
        (model(x) - x[:, :16] * 2).square().sum().backward()
        optimizer.step()
        seen.append(optimizer.training.masks[0].clone())
    return model, seen


def test_srigl_keeps_a_constant_fan_in_and_exchanges_weights():
    model, masks = trained_by_srigl("fan-in", 0.75, SRigL(saliency=0))
    for mask in masks:
        assert mask.sum(1).tolist() == [8] * 16
    changed = [int((a ^ b).sum()) for a, b in pairwise(masks)]
    ends = [step for step, number in enumerate(changed) if number]
    assert ends
    assert set(ends) <= {3 + 4 * n - 1 for n in range(7)}
    assert max(changed) <= 2 * 0.3 * 128
    assert not any(changed[32:])
    assert not model.weight[~masks[-1]].any()


@pytest.mark.parametrize(
    ("name", "sparsity", "fan_in"), [("fan-in", 0.75, 16), ("fan-in 8", None, 8)]
)
def test_srigl_ablates_outputs_without_salient_weights(name, sparsity, fan_in):
    model = layer(16, 32)
    with torch.no_grad():
        model.weight[::2] *= 1e-4
    optimizer = ap.Sparsifier(model, format=name, sparsity=sparsity).srigl(
        torch.optim.SGD(model.parameters(), lr=0.0),
        SRigL(fraction=0.99),
        steps=10,
        timing=Timing(start=0, stop=0.8, periods=4),
    )
    for _ in range(4):
        optimizer.zero_grad()
        model(batch(0, 32))[:, 1::2].sum().backward()
        optimizer.step()
    counts = optimizer.training.masks[0].sum(1)
    assert counts[::2].tolist() == [0] * 8
    assert counts[1::2].tolist() == [fan_in] * 8


def test_momentum_of_removed_weights_does_not_bring_them_back():
    model = layer()
    optimizer = ap.Sparsifier(model, format="csr", sparsity=0.5).gmp(
        torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9, weight_decay=0.1),
        GMP(),
        steps=10,
        timing=Timing(start=0, stop=0.5, periods=1),
    )
    for step in range(10):
        backward(model, optimizer, step)
        optimizer.step()
    assert int((model.weight == 0).sum()) == 64
