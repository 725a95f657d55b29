"""Two processes that train together decide alike, and as one process with both batches would."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest
import torch
from torch import Tensor, distributed, nn
from torch.distributed import checkpoint
from torch.distributed.checkpoint.state_dict import get_state_dict, set_state_dict
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.nn.functional import cross_entropy, scaled_dot_product_attention
from torch.nn.parallel import DistributedDataParallel
from torch.optim import SGD, AdamW

import autoprune as ap
from autoprune.errors import LearnerError
from autoprune.passes.learners import HESSOCRIC, SparseOptimizer
from autoprune.passes.learners.sharding import whole_tensor
from tests.learners.processes import two_processes
from tests.learners.training import METHODS, STEPS, TIMING, same
from tests.sparsity.test_sparsifier import METHODS as MASKS
from tests.sparsity.test_sparsifier import adamw, loss_of, small
from tests.tolerance import ROUNDING_SINGLE

BATCH = 8


class Images(nn.Module):
    """Two convolutions, the first with a norm whose statistics do not change, and a classifier."""

    example = torch.zeros(BATCH, 3, 6, 6)

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm = nn.Conv2d(3, 6, 3, bias=False), nn.BatchNorm2d(6)
        self.second, self.head = nn.Conv2d(6, 5, 3), nn.Linear(5 * 4, 5)
        self.train()

    def train(self, mode: bool = True) -> Images:
        super().train(mode)
        self.norm.eval()
        return self

    def forward(self, x: Tensor) -> Tensor:
        x = self.second(self.norm(self.first(x)).relu()).relu()
        return self.head(x.flatten(1))


class Attention(nn.Module):
    """Two heads of width 4."""

    def __init__(self, width: int = 6) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.q, self.v = nn.Linear(width, 8), nn.Linear(width, 8)
        # The gradient of its bias would be rounding errors only, which AdamW makes large.
        self.k = nn.Linear(width, 8, bias=False)
        self.out = nn.Linear(8, width)

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(x)
        q, k, v = (f(y).unflatten(-1, (2, 4)).transpose(1, 2) for f in (self.q, self.k, self.v))
        y = scaled_dot_product_attention(q, k, v)
        return x + self.out(y.transpose(1, 2).flatten(2))


class Words(nn.Module):
    """A block of a transformer between tied embeddings.

    Seven hidden units and five words do not divide by two, and the gate has a single row.
    """

    example = torch.zeros(BATCH, 3, dtype=torch.long)

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.attention = nn.Embedding(5, 6), Attention()
        self.up, self.gate, self.down = nn.Linear(6, 7), nn.Linear(7, 1), nn.Linear(7, 6)
        self.head = nn.Linear(6, 5, bias=False)
        self.head.weight = self.embed.weight

    def forward(self, x: Tensor) -> Tensor:
        x = self.attention(self.embed(x))
        hidden = self.up(x).relu()
        x = x + self.down(hidden * self.gate(hidden).sigmoid())
        return self.head(x.mean(1))


Network = type[Images] | type[Words]
SHARDED = [
    "hspg",
    "dhspg",
    "hesso",
    "cric_loss",
    "importance",
    "wgsef",
    "polarization",
    "turbo_vbi",
]
"""The other methods need nothing that these do not."""

BASES = {
    "sgd": lambda parameters: SGD(parameters, lr=0.05, momentum=0.9, weight_decay=1e-3),
    "adamw": lambda parameters: AdamW(parameters, lr=0.01),
}


def build(network: Network, seed: int = 0) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return network()


def batch(network: Network, step: int, ranks: int, rank: int) -> tuple[Tensor, Tensor]:
    """The part of a step's batch that a process has."""
    rng = torch.Generator().manual_seed(step)
    shape = (BATCH, *network.example.shape[1:])
    if network is Words:
        x = torch.randint(5, shape, generator=rng)
    else:
        x = torch.randn(shape, generator=rng)
    y = torch.randint(5, (BATCH,), generator=rng)
    return x.chunk(ranks)[rank], y.chunk(ranks)[rank]


@dataclass
class Moment:
    """The state after a step."""

    chosen: Tensor
    zero: Tensor
    weights: dict[str, Tensor]


def follow(
    network: Network,
    model: nn.Module,
    optimizer: SparseOptimizer,
    steps: range = range(STEPS),
    ranks: int = 1,
    rank: int = 0,
) -> list[Moment]:
    """Train, and take down what happens."""
    moments = []
    for step in steps:
        x, y = batch(network, step, ranks, rank)
        optimizer.zero_grad()
        cross_entropy(model(x), y).backward()
        optimizer.step()
        course = optimizer.training
        weights = {n: whole_tensor(p).clone() for n, p in course.model.named_parameters()}
        moments.append(Moment(course.chosen.clone(), course.zero.clone(), weights))
    return moments


@cache
def alone(network: Network, base: str, method: str, seed: int = 0) -> list[Moment]:
    """One process with the whole batches."""
    model = build(network, seed)
    pruner = ap.Pruner(model, network.example, multiple_of=1)
    return follow(network, model, start(pruner, base, method))


def start(pruner: ap.Pruner, base: str, method: str) -> SparseOptimizer:
    """A learner; the method `cric_loss` looks at the loss besides the gradients."""
    model = pruner.model
    chosen = METHODS.get(method)
    if chosen is None:
        x, y = batch(Words if isinstance(model, Words) else Images, 1000, 1, 0)
        chosen = HESSOCRIC(cycles=2, samples=3, loss=lambda: cross_entropy(model(x), y))
    optimizer = BASES[base](model.parameters())
    return pruner.learn(optimizer, chosen, groups=0.5, steps=STEPS, timing=TIMING)


def assert_alike(first: list[Moment], second: list[Moment]) -> None:
    """Equal decisions, and weights equal up to rounding, after every step."""
    assert len(first) == len(second) > 0
    for one, other in zip(first, second, strict=True):
        assert torch.equal(one.chosen, other.chosen)
        assert torch.equal(one.zero, other.zero)
        torch.testing.assert_close(one.weights, other.weights, rtol=0, atol=ROUNDING_SINGLE)


def assert_identical(first: list[Moment], second: list[Moment]) -> None:
    """The same bits after every step."""
    assert len(first) == len(second) > 0
    for one, other in zip(first, second, strict=True):
        assert torch.equal(one.chosen, other.chosen)
        assert torch.equal(one.zero, other.zero)
        assert same(one.weights, other.weights)


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    with two_processes(tmp_path_factory.mktemp("processes")) as processes:
        yield processes


# Data parallelism: every process has the whole model.


def replicated(network: Network, base: str, method: str) -> tuple[list[Moment], dict[str, Tensor]]:
    rank = distributed.get_rank()
    # The wrapper gives all processes the weights of the first, after the Pruner saw others.
    model = build(network, seed=rank)
    pruner = ap.Pruner(model, network.example, multiple_of=1)
    wrapped = DistributedDataParallel(model)
    optimizer = start(pruner, base, method)
    moments = follow(network, wrapped, optimizer, ranks=2, rank=rank)
    return moments, pruner.finish().model.state_dict()


# What the other methods do together with other processes, these do, too.
@pytest.mark.parametrize("method", [*SHARDED, "growing"])
def test_data_parallel(pair, method):
    (first, small), (second, also_small) = pair.run(replicated, Images, "sgd", method)
    assert_identical(first, second)
    assert same(small, also_small)
    assert_alike(first, alone(Images, "sgd", method))


def by_themselves() -> list[Moment]:
    rank = distributed.get_rank()
    group = [distributed.new_group([r]) for r in (0, 1)][rank]
    model = build(Images, seed=rank)
    pruner = ap.Pruner(model, Images.example, multiple_of=1, process_group=group)
    return follow(Images, model, start(pruner, "sgd", "hesso"))


def test_processes_that_do_not_train_together(pair):
    for rank, moments in enumerate(pair.run(by_themselves)):
        assert_identical(moments, alone(Images, "sgd", "hesso", seed=rank))


# Fully sharded: every process has a part of every parameter.


def shard(model: nn.Module, replicate: bool = False) -> None:
    """Shard a model in place.

    Args:
        model: the model.
        replicate: whether both processes hold everything, as two replicas do in a larger hybrid.
    """
    names = ("replicate", "shard")
    mesh = init_device_mesh("cpu", (2, 1), mesh_dim_names=names) if replicate else None
    for module in model.modules():
        if isinstance(module, Attention):
            fully_shard(module, mesh=mesh)
    fully_shard(model, mesh=mesh)


def sharded(
    network: Network, base: str, method: str, replicate: bool
) -> tuple[list[Moment], list[int]]:
    """What happens, and how much of each parameter the process holds."""
    model = build(network)
    pruner = ap.Pruner(model, network.example, multiple_of=1)
    shard(model, replicate)
    optimizer = start(pruner, base, method)
    held = [part.local.numel() for part in optimizer.training.units.slices]
    return follow(network, model, optimizer, ranks=2, rank=distributed.get_rank()), held


@pytest.mark.parametrize(
    ("network", "base", "method", "replicate"),
    [
        *((Words, "adamw", method, False) for method in SHARDED),
        (Words, "sgd", "dhspg", False),
        (Images, "sgd", "hesso", False),
        (Words, "adamw", "hspg", True),
    ],
)
def test_sharded(pair, network, base, method, replicate):
    (first, first_held), (second, second_held) = pair.run(sharded, network, base, method, replicate)
    if replicate:
        assert first_held == second_held
    elif network is Words:
        assert 0 in second_held
        assert first_held != second_held
    assert_identical(first, second)
    assert_alike(first, alone(network, base, method))


def norms_one_by_one(sharded: bool) -> list[float]:
    """The norm of every unit, from the parameters alone that it lies in."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        # Units are rows of both weights, so that one process has all of each.
        model = nn.Sequential(nn.Conv1d(4, 8, 1), nn.ReLU(), nn.ConvTranspose1d(8, 3, 1))
    pruner = ap.Pruner(model, torch.zeros(2, 4, 5), multiple_of=1)
    if sharded:
        fully_shard(model)
    units = start(pruner, "sgd", "hesso").training.units
    masks = torch.eye(units.count, dtype=torch.bool)
    return [units.among(mask).norms()[mask].item() for mask in masks]


def test_a_process_that_holds_nothing_of_a_unit(pair):
    first, second = pair.run(norms_one_by_one, True)
    assert first == second
    torch.testing.assert_close(first, norms_one_by_one(False), rtol=0, atol=ROUNDING_SINGLE)


def finished(network: Network) -> tuple[dict[str, Tensor], float]:
    """The small network, and how far its outputs are from those of the trained one."""
    rank = distributed.get_rank()
    model = build(network)
    pruner = ap.Pruner(model, network.example, multiple_of=1)
    shard(model)
    follow(network, model, start(pruner, "adamw", "hesso"), ranks=2, rank=rank)
    for buffer in model.buffers():  # statistics of different batches
        buffer.add_(rank)
    x, _ = batch(network, STEPS, 1, 0)
    with torch.no_grad():
        model.eval()(x)  # leaves whole weights in the module
        small = pruner.finish().model
        for buffer in model.buffers():
            buffer.sub_(rank)
        gap = (small(x) - model(x)).abs().max()
    return small.state_dict(), gap.item()


@pytest.mark.parametrize("network", [Words, Images])
def test_finished(pair, network):
    (first, gap), (second, also_gap) = pair.run(finished, network)
    assert same(first, second)
    assert max(gap, also_gap) < ROUNDING_SINGLE
    whole = build(network).state_dict()
    assert sum(t.numel() for t in first.values()) < sum(t.numel() for t in whole.values())


def saved(folder: Path, method: str, step: int) -> tuple[list[Moment], list[Moment]]:
    """The steps after a checkpoint: of the run it is from, and of another that loads it."""
    rank = distributed.get_rank()

    def begin(seed: int) -> tuple[nn.Module, SparseOptimizer]:
        model = build(Words, seed)
        pruner = ap.Pruner(model, Words.example, multiple_of=1)
        shard(model)
        return model, start(pruner, "adamw", method)

    model, optimizer = begin(seed=0)
    follow(Words, model, optimizer, range(step), 2, rank)
    weights, state = get_state_dict(model, optimizer.base)
    checkpoint.save({"model": weights, "optimizer": state}, checkpoint_id=folder)
    learner = optimizer.learner_state()
    if rank == 0:
        torch.save(learner, folder / "learner.pt")
    distributed.barrier()
    uninterrupted = follow(Words, model, optimizer, range(step, STEPS), 2, rank)

    model, optimizer = begin(seed=1)
    weights, state = get_state_dict(model, optimizer.base)
    loaded = {"model": weights, "optimizer": state}
    checkpoint.load(loaded, checkpoint_id=folder)
    set_state_dict(
        model,
        optimizer.base,
        model_state_dict=loaded["model"],
        optim_state_dict=loaded["optimizer"],
    )
    optimizer.load_learner_state(torch.load(folder / "learner.pt", weights_only=True))
    return uninterrupted, follow(Words, model, optimizer, range(step, STEPS), 2, rank)


# After 5 steps HESSO-CRIC is in the middle of its trials, after 13 there are units that shrink.
@pytest.mark.parametrize(("method", "step"), [("hesso_cric", 5), ("dhspg", 13)])
def test_resumed_is_uninterrupted(pair, tmp_path, method, step):
    for uninterrupted, resumed in pair.run(saved, tmp_path, method, step):
        assert_identical(uninterrupted, resumed)


def refused(closure: bool) -> tuple[str, bool]:
    """What a step says of numbers that are not finite in one process, and if it changed nothing."""
    rank = distributed.get_rank()
    model = build(Words)
    pruner = ap.Pruner(model, Words.example, multiple_of=1)
    shard(model)
    optimizer = start(pruner, "adamw", "hesso")
    before = [whole_tensor(p).clone() for p in model.parameters()]

    def loss() -> Tensor:
        x, y = batch(Words, 0, 2, rank)
        value = cross_entropy(model(x), y)
        value.backward()
        return value * torch.inf if closure and rank == 1 else value

    try:
        if closure:
            optimizer.step(loss)
        else:
            loss()
            if rank == 1:
                model.up.weight.grad.to_local().fill_(torch.nan)
            optimizer.step()
    except LearnerError as error:
        after = [whole_tensor(p) for p in model.parameters()]
        return str(error), all(map(torch.equal, before, after))
    return "", False


@pytest.mark.parametrize(("closure", "what"), [(False, "gradients are"), (True, "the loss is")])
def test_not_finite_in_one_process_stops_both(pair, closure, what):
    for message, unchanged in pair.run(refused, closure):
        assert message.startswith(f"{what} not finite in step 0")
        assert unchanged


# Masks, under data parallelism.


def masked(name: str) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Weights and masks of a process, each of which sees data of its own."""
    method, format = MASKS[name]
    # Weights are those of the first process.
    model = small(seed=distributed.get_rank())
    sparsifier = ap.Sparsifier(model, format=format)
    wrapped = DistributedDataParallel(model)
    optimizer = sparsifier.train(adamw(model.parameters()), method, steps=STEPS, timing=TIMING)
    for step in range(STEPS):
        optimizer.zero_grad()
        loss_of(wrapped, 2 * step + distributed.get_rank()).backward()
        optimizer.step()
    result = sparsifier.finish()
    weights = {name: p.detach() for name, p in result.model.named_parameters()}
    return weights, dict(result.masks)


@pytest.mark.parametrize("name", MASKS)
def test_masks_are_the_same(pair, name):
    (first, masks), (second, others) = pair.run(masked, name)
    assert same(masks, others)
    assert same(first, second)
    assert all(not mask.all() for mask in masks.values())
