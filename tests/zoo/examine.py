"""What is asked of every model of the zoo, and the table row that answers it."""

from __future__ import annotations

import copy
from dataclasses import dataclass

import torch
from torch.utils import _pytree as pytree

import autoprune as ap
from tests.zoo.row import ZooModel


@dataclass(frozen=True)
class Examination:
    """One row of the zoo's table.

    Attributes:
        name: of the model.
        nodes: operators in the exported graph.
        groups: how many of each guarantee.
        params: share of parameters kept.
        flops: share of FLOPs kept.
        error: largest relative difference between the cut and the zeroed network.
        seconds: processor time of the analysis, after export.
        module: `same class` or `GraphModule`.
        reason: why a GraphModule.
    """

    name: str
    groups: dict[str, int]
    params: float
    flops: float
    error: float
    seconds: float
    module: str
    reason: str


def examine(row: ZooModel, seed: int = 0) -> Examination:
    """Prune half of every exact group at random; the result must compute, train and copy.

    `prune` itself compares the cut network with the zeroed one.
    """
    model, inputs = row.build(), row.inputs()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    result = ap.prune(model, inputs, channels=0.5, criterion="random", multiple_of=1, seed=seed)
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, before[name]), f"{name} of the user's model has changed"
    assert_trains(result.model, inputs)
    assert_copies(result.model)
    report = result.report
    groups: dict[str, int] = {}
    for group in report.groups:
        groups[group.guarantee] = groups.get(group.guarantee, 0) + 1
    return Examination(
        name=row.name,
        groups=groups,
        params=report.after.params / max(1, report.before.params),
        flops=report.after.flops / max(1, report.before.flops),
        error=report.error,
        seconds=report.analysis_seconds,
        module=report.module,
        reason=report.module_reason,
    )


def forward(model: torch.nn.Module, inputs: tuple | dict) -> list[torch.Tensor]:
    """Floating-point outputs of a forward pass."""
    outputs = model(**inputs) if isinstance(inputs, dict) else model(*inputs)
    leaves = pytree.tree_leaves(outputs)
    return [v for v in leaves if isinstance(v, torch.Tensor) and v.is_floating_point()]


def assert_trains(model: torch.nn.Module, inputs: tuple | dict) -> None:
    """A backward pass reaches parameters, with finite gradients."""
    model.train()
    sum(v.square().sum() for v in forward(model, inputs)).backward()
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    assert gradients, "no gradient reaches any parameter"
    assert all(g.isfinite().all() for g in gradients)
    model.zero_grad()
    model.eval()


def assert_copies(model: torch.nn.Module) -> None:
    """The model can be deep-copied, and its state loads into the copy."""
    duplicate = copy.deepcopy(model)
    duplicate.load_state_dict(model.state_dict())
    assert all(
        a.shape == b.shape for a, b in zip(model.parameters(), duplicate.parameters(), strict=True)
    )
