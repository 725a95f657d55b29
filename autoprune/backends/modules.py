"""A plan, and a smaller model of the user's own class made from it.

Parameters of a copy are sliced, integers that its `forward` reads from attributes are set, and
factors that the cut brings about are taken up by parameters.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from autoprune.analysis.resizing import sizes_of
from autoprune.backends.attributes import entries_of
from autoprune.backends.torch import copy_without, cut_tensor, get_tensor, set_tensor
from autoprune.errors import PlanError
from autoprune.ir import axes as ax
from autoprune.ir.axes import Axis
from autoprune.ir.plan import Factor, Plan
from autoprune.ir.positions import unit_positions


def rebuild(model: nn.Module, plan: Plan) -> nn.Module:
    """A copy of `model`, of its own class, with parameters sliced and attributes set.

    Raises:
        PlanError: if the model lacks a parameter or attribute of the plan, or has a parameter in
            another shape.
    """
    result = _cut_copy(model, plan)
    sizes = sizes_of(plan.choices())
    for path, entries in plan.attributes.items():
        for name, stated in entries.items():
            axes = plan.axes(stated)
            try:
                module = result.get_submodule(path)
            except AttributeError:
                module = nn.Module()
            old = vars(module).get(name)
            if not axes or entries_of(old) != tuple(axis.size for axis in axes):
                raise PlanError(
                    f"the plan changes a size that is not in the model: {old!r} was expected to "
                    f"be {', '.join(str(axis.size) for axis in axes)}",
                    where=f"{path}.{name}",
                    hint="apply the plan to the uncut architecture it was made for",
                )
            new = [ax.size(axis, sizes) for axis in axes]
            setattr(module, name, type(old)(new) if isinstance(old, tuple | list) else new[0])
    for path, constants in plan.constants.items():
        for name, (before, after) in constants.items():
            module = result.get_submodule(path)
            if name not in vars(module) or vars(module)[name] != before:
                raise PlanError(
                    f"the plan changes a number that is not in the model: {before} was expected",
                    where=f"{path}.{name}",
                    hint="apply the plan to the uncut architecture it was made for",
                )
            setattr(module, name, after)
    return result


def _cut_copy(model: nn.Module, plan: Plan) -> nn.Module:
    """A copy in which each tensor the plan names is sliced, under all the names it is tied to."""
    kept = plan.choices()
    names: dict[int, list[str]] = {}
    for name, tensor in (
        *model.named_parameters(remove_duplicate=False),
        *model.named_buffers(remove_duplicate=False),
    ):
        names.setdefault(id(tensor), []).append(name)
    changed: dict[str, torch.Tensor] = {}
    for name, expressions in plan.parameters.items():
        axes = plan.axes(expressions)
        try:
            old = get_tensor(model, name)
        except AttributeError as error:
            raise PlanError(
                "the plan cuts a parameter that the model does not have",
                where=name,
                hint="apply the plan to the architecture it was made for",
            ) from error
        expected = tuple(axis.size for axis in axes)
        if tuple(old.shape) != expected:
            raise PlanError(
                f"the plan expects shape {expected}, the model has {tuple(old.shape)}",
                where=name,
                hint="apply the plan to the uncut architecture it was made for",
            )
        factor = plan.factors.get(name)
        uid = list(plan.groups).index(factor.group) if factor and factor.group else None
        try:
            new = cut_tensor(old if factor is None else _scaled(old, axes, uid, factor), axes, kept)
        except ValueError as error:
            raise PlanError(
                str(error), where=name, hint="list the units of the group once, without `outer`"
            ) from error
        changed.update(dict.fromkeys(names.get(id(old), [name]), new))
    result: nn.Module = copy_without(model, changed)
    for path, tensor in changed.items():
        set_tensor(result, path, tensor)
    return result


def _scaled(
    tensor: torch.Tensor, axes: Sequence[Axis], uid: int | None, factor: Factor
) -> torch.Tensor:
    """A parameter that has taken up a factor, at the positions of a leaf or everywhere."""
    old = tensor.detach()
    new = old * factor.scale + factor.offset
    for dim, axis in enumerate(axes):
        if uid in axis.uids:
            there = torch.zeros(axis.size, dtype=torch.bool, device=old.device)
            there[torch.from_numpy(unit_positions(axis, uid).ravel())] = True
            new = torch.where(there.view(-1, *(1,) * (old.ndim - dim - 1)), new, old)
    return nn.Parameter(new, requires_grad=tensor.requires_grad)
