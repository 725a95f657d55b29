"""The steps of learners against the formulas of the papers, written out unit by unit."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from torch import nn

import autoprune as ap
from autoprune.frameworks.torch.cut import zeroing
from autoprune.passes import learners
from autoprune.passes.learners.units.bayes import chain_odds
from autoprune.passes.learners.units.envelope import proximal_factors
from autoprune.passes.learners.units.saliency import update_moments
from tests.tolerance import ROUNDING_DOUBLE, ROUNDING_SINGLE

RATE = 0.05
STEPS = 20
TIMING = learners.Timing(start=0.0, stop=1.0, periods=2)


class Mixed(nn.Module):
    """Heads of some width, a concatenation, and a layer whose rows and columns are one group."""

    def __init__(self):
        super().__init__()
        self.into = nn.Linear(5, 12)
        self.square = nn.Linear(12, 12)
        self.side = nn.Linear(5, 4)
        self.out = nn.Linear(16, 3)

    def forward(self, x):
        h = self.into(x)
        h = h.view(-1, 3, 4).relu().flatten(1)
        h = h + self.square(h).relu()
        return self.out(torch.cat([h, self.side(x).relu()], dim=1))


def steered(method, make=None, timing=TIMING, lr=RATE, channels=0.5):
    """A small network with a learner, and its data."""
    torch.manual_seed(0)
    model = (make or (lambda: nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 3))))()
    inputs = next(m for m in model.modules() if isinstance(m, nn.Linear)).in_features
    x, y = torch.randn(8, inputs), torch.randn(8, 3)
    pruner = ap.Pruner(model, x, multiple_of=1)
    base = torch.optim.SGD(model.parameters(), lr=lr)
    optimizer = pruner.learn(base, method, channels=channels, steps=STEPS, timing=timing)
    return model, optimizer, x, y


def gradients(model, x, y):
    model.zero_grad()
    nn.functional.mse_loss(model(x), y).backward()
    return [p.grad.clone() for p in model.parameters()]


def unit(tensors, u):
    """All weights of hidden unit u of the two-layer network."""
    first, bias, second, _ = tensors
    return torch.cat([first[u], bias[u : u + 1], second[:, u]])


def flat(model):
    return [p.detach().clone() for p in model.parameters()]


# Units as tensors


@pytest.mark.parametrize("seed", range(3))
def test_sums_and_zeros_agree_with_the_law(seed):
    """What `scale` and `Zeros` set to zero is what cutting is compared with."""
    model, optimizer, *_ = steered(learners.HESSO(), Mixed)
    course, generator = optimizer.training, torch.Generator().manual_seed(seed)
    units, analysis = course.units, course.selection.analysis
    removed = torch.rand(units.count, generator=generator) < 0.5
    kept = {
        group.leaf.uid: np.flatnonzero(~mask.numpy())
        for group, mask in zip(units.groups, units.split(removed), strict=True)
    }
    parameters = dict(model.named_parameters())
    changes = zeroing(analysis.typed, kept, {})
    expected = {name: change(parameters[name]) for name, change in changes.items()}
    scaled, erased = Mixed(), Mixed()
    for other in (scaled, erased):
        other.load_state_dict(model.state_dict())
    norms = units.norms()
    before = [p.detach().clone() for p in model.parameters()]
    units.scale(1.0 - removed.float())
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(parameter.detach(), expected.get(name, parameter.detach()))
    assert (units.norms()[removed] == 0).all()
    with torch.no_grad():
        for parameter, old in zip(model.parameters(), before, strict=True):
            parameter.copy_(old)
    course.erase(removed)
    for name, parameter in model.named_parameters():
        assert torch.equal(parameter.detach(), expected.get(name, parameter.detach()))
    assert (norms[removed] > 0).all()


def test_norms_by_hand():
    model, optimizer, *_ = steered(learners.HESSO())
    tensors = flat(model)
    by_hand = torch.stack([unit(tensors, u).norm() for u in range(6)])
    torch.testing.assert_close(optimizer.training.units.norms(), by_hand)
    assert optimizer.training.units.sizes().tolist() == [8.0] * 6


def test_moments_by_hand():
    model, optimizer, x, y = steered(learners.HESSO())
    old, direction = flat(model), gradients(model, x, y)
    units = optimizer.training.units
    copies = units.copies()
    optimizer.base.step()
    moments = update_moments(units, copies, optimizer.training.rates(units))
    for u in range(6):
        a, d = unit(old, u), unit(direction, u)
        torch.testing.assert_close(moments.xd[u], a @ d, rtol=1e-3, atol=1e-6)
        torch.testing.assert_close(
            moments.cosine[u], torch.cosine_similarity(a, d, dim=0), rtol=1e-3, atol=1e-4
        )


# Half-space steps


@pytest.mark.parametrize("epsilon", [0.0, 0.5, 0.95])
def test_a_step_of_hspg(epsilon):
    strength = 1.5
    model, optimizer, x, y = steered(learners.HSPG(penalty=strength, epsilon=epsilon))
    old, direction = flat(model), gradients(model, x, y)
    optimizer.step()
    target = optimizer.training.memory["target"]
    projected = 0
    for u in range(6):
        a, d = unit(old, u), unit(direction, u)
        trial = a - RATE * d - RATE * strength * a / a.norm()
        leaves = bool(target[u]) and bool(trial @ a < epsilon * a @ a)
        projected += leaves
        expected = torch.zeros_like(a) if leaves else trial
        torch.testing.assert_close(unit(flat(model), u), expected)
    assert projected == int(optimizer.training.zero.sum())
    if epsilon == 0.95:
        assert projected


def dhspg_strength(a, d, penalty, amplify, cap):
    inner = a @ d
    if inner >= 0:
        return penalty
    low = -inner / a.norm()
    high = -(d @ d) * a.norm() / inner
    strength = torch.clip(amplify * low, penalty, penalty * cap)
    return (low + high) / 2 if strength >= high else strength


def test_a_step_of_dhspg():
    method = learners.DHSPG(penalty=0.01, amplify=2.0, cap=50.0, epsilon=0.9)
    model, optimizer, x, y = steered(method, channels=1 / 6)
    gradients(model, x, y)
    optimizer.step()  # divides the units
    target = optimizer.training.memory["target"]
    assert int(target.sum()) == 5
    grew = 0
    for _ in range(4):
        active = target & ~optimizer.training.zero
        old, direction = flat(model), gradients(model, x, y)
        optimizer.step()
        for u in range(6):
            a, d = unit(old, u), unit(direction, u)
            trial = a - RATE * d
            if active[u]:
                strength = dhspg_strength(a, d, 0.01, 2.0, 50.0)
                grew += bool(a @ d < 0)
                trial = trial - RATE * strength * a / a.norm()
                # The step is a direction of descent for the norm and for the loss.
                step = d + strength * a / a.norm()
                assert step @ a > 0
                assert step @ d > 0 or a @ d >= 0
                if trial @ a < 0.9 * (a @ a):
                    trial = torch.zeros_like(a)
            elif target[u]:
                trial = torch.zeros_like(a)
            torch.testing.assert_close(unit(flat(model), u), trial, rtol=ROUNDING_SINGLE, atol=1e-6)
    assert grew


# HESSO


def test_units_shrink_linearly():
    """With a resting base, a unit loses the same amount in every step of its period."""
    model, optimizer, x, y = steered(learners.HESSO(), lr=0.0)
    start = optimizer.training.units.norms()
    for step in range(10):
        gradients(model, x, y)
        optimizer.step()
        chosen = optimizer.training.chosen
        expected = torch.where(chosen, start * (1 - (step + 1) / 10), start)
        torch.testing.assert_close(optimizer.training.units.norms(), expected)
    assert int(optimizer.training.zero.sum()) == 2
    assert torch.equal(optimizer.training.zero, optimizer.training.chosen)


def test_the_lowest_go_first_whatever_their_index():
    """Public code takes redundant units in the order of a set, and never the last channel."""
    for lowest in range(6):
        model, optimizer, x, y = steered(learners.HESSO(), lr=0.0, channels=5 / 6)
        with torch.no_grad():
            for tensor, dim in ((model[0].weight, 0), (model[0].bias, 0), (model[2].weight, 1)):
                tensor.index_fill_(dim, torch.tensor([lowest]), 1e-3)
        for _ in range(STEPS):
            gradients(model, x, y)
            optimizer.step()
        assert optimizer.training.zero.nonzero()[:, 0].tolist() == [lowest]


# Penalties


@pytest.mark.parametrize(
    "method",
    [
        learners.GroupLasso(strength=0.3, weighting="plain"),
        learners.Polarization(strength=0.3, t=1.2),
    ],
    ids=str,
)
def test_gradients_of_penalties(method):
    model, optimizer, x, y = steered(method)
    plain = gradients(model, x, y)
    tensors = [p.detach().clone().requires_grad_() for p in model.parameters()]
    norms = torch.stack([unit(tensors, u).norm() for u in range(6)])
    value = norms.sum()
    if isinstance(method, learners.Polarization):
        value = 1.2 * norms.sum() - (norms - norms.mean()).abs().sum()
    extra = torch.autograd.grad(0.3 * value, tensors, allow_unused=True)
    optimizer._gradients_ready(None)
    for parameter, before, added in zip(model.parameters(), plain, extra, strict=True):
        expected = before if added is None else before + added
        torch.testing.assert_close(parameter.grad, expected)


def test_importance_weighted_group_lasso():
    method = learners.GroupLasso(strength=0.1, weighting="importance", alpha=4.0)
    model, optimizer, x, y = steered(method)
    plain, tensors = gradients(model, x, y), flat(model)
    norms = torch.stack([unit(tensors, u).norm() for u in range(6)])
    factors = 0.1 * 2 ** (4 * (norms.max() - norms) / (norms.max() - norms.min()))
    optimizer._gradients_ready(None)
    changed = [p.grad for p in model.parameters()]
    for u in range(6):
        added = unit(changed, u) - unit(plain, u)
        torch.testing.assert_close(added, factors[u] * unit(tensors, u), rtol=1e-3, atol=1e-6)


def test_penalties_reach_normalization():
    """A public implementation changes a copy of batch normalization's weights: ours must move."""

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.norm = nn.Conv2d(1, 6, 3, bias=False), nn.BatchNorm2d(6)
            self.head = nn.Linear(6, 3)

        def forward(self, x):
            return self.head(self.norm(self.conv(x)).relu().mean((2, 3)))

    torch.manual_seed(0)
    model, x = Net(), torch.randn(4, 1, 6, 6)
    pruner = ap.Pruner(model, x, multiple_of=1)
    base = torch.optim.SGD(model.parameters(), lr=1.0)
    method = learners.GroupLasso(strength=0.1, weighting="plain")
    optimizer = pruner.learn(base, method, channels=0.5, steps=STEPS, timing=TIMING)
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    assert (model.norm.weight < 1).all()


# The weighted group sparse envelope


@pytest.mark.parametrize("seed", range(6))
def test_proximal_map_of_the_envelope(seed):
    """Against direct minimization of 1/2 ||x - u||^2 + amount R_k(x), over x and t at once."""
    rng = np.random.default_rng(seed)
    n = 6
    norms, weights = rng.uniform(0.1, 2, n), rng.uniform(0.5, 3, n)
    budget, amount = rng.uniform(0.2, 0.8) * weights.sum(), rng.uniform(0.05, 1.5)

    def objective(z):
        r, t = z[:n], z[n:]
        return 0.5 * ((r - norms) ** 2).sum() + 0.5 * amount * (r**2 / t).sum()

    best = min(
        (
            minimize(
                objective,
                np.concatenate([norms / 2, start]),
                bounds=[(0, None)] * n + [(1e-9, 1)] * n,
                constraints={"type": "ineq", "fun": lambda z: budget - weights @ z[n:]},
                method="SLSQP",
                options={"maxiter": 2000, "ftol": 1e-14},
            )
            for start in (np.full(n, 0.3), np.full(n, 0.05), rng.uniform(0.05, 0.5, n))
        ),
        key=lambda found: found.fun,
    )
    factors = proximal_factors(
        torch.from_numpy(norms), torch.from_numpy(weights), budget, amount
    ).numpy()
    np.testing.assert_allclose(factors * norms, best.x[:n], atol=2e-3)
    t = np.where(factors < 1, amount * factors / (1 - factors), 1)
    ours = objective(np.concatenate([factors * norms, np.maximum(t, 1e-12)]))
    assert ours <= best.fun + 1e-6


def test_a_budget_for_all_shrinks_all_alike():
    factors = proximal_factors(torch.ones(4), torch.ones(4), 10.0, 0.25)
    torch.testing.assert_close(factors, torch.full((4,), 1 / 1.25))


def test_the_budget_is_used_up():
    norms, weights = torch.rand(50).double() + 0.1, torch.rand(50).double() + 0.5
    factors = proximal_factors(norms, weights, 9.0, 0.3)
    t = 0.3 * factors / (1 - factors)
    assert abs(float(weights @ t) - 9.0) < ROUNDING_DOUBLE * 1e3


# Supports as a Markov chain


@pytest.mark.parametrize("links", [1, 2, 3, 5, 8])
@pytest.mark.parametrize("persistence", [0.5, 0.7, 0.95])
def test_posterior_of_a_chain(links, persistence):
    """Against the sum over all 2^n supports."""
    evidence = torch.randn(links, generator=torch.Generator().manual_seed(links)).double() * 2
    weight = torch.zeros(links, 2, dtype=torch.float64)
    for states in itertools.product((0, 1), repeat=links):
        log = sum(float(e) for e, s in zip(evidence, states, strict=True) if s)
        for a, b in itertools.pairwise(states):
            log += np.log(persistence if a == b else 1 - persistence)
        for i, state in enumerate(states):
            weight[i, state] += np.exp(log)
    expected = (weight[:, 1] / weight[:, 0]).log()
    torch.testing.assert_close(chain_odds(evidence, persistence), expected)


def test_extreme_evidence_stays_finite():
    evidence = torch.tensor([1e4, -1e4] * 40)
    odds = chain_odds(evidence, 0.7)
    assert torch.isfinite(odds).all()
    assert (odds.sign() == evidence.sign()).all()
