"""The law, from the plan alone: what the original computes with the removed units set to zero."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from autoprune.ir.plan import Plan
from tests.conformance.removal import removed, units_along


def zeroed(network: nn.Module, plan: Plan, guarantees: Mapping[str, str], inputs: Any) -> Any:
    """Outputs with the removed units zeroed in what makes them, and if need be in what reads them.

    Layers whose names start with `read` read units; zero in those is only what groups of other
    guarantees than `zero-invariant` and `folded` lose.
    """
    state = {n: p.detach().clone() for n, p in network.named_parameters() if n in plan.parameters}
    for name, tensor in state.items():
        groups = {
            group: choice
            for group, choice in plan.groups.items()
            if not name.startswith("read") or guarantees[group] not in ("zero-invariant", "folded")
        }
        axes = [units_along(e, plan) for e in plan.parameters[name]]
        tensor[torch.from_numpy(removed(axes, groups))] = 0
    with torch.no_grad():
        return torch.func.functional_call(network, state, inputs)
