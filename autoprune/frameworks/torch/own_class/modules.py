"""A plan, and a smaller model of the user's own class made from it.

Parameters of a copy are sliced, integers that its `forward` reads from attributes are set, and
factors that the cut brings about are taken up by parameters.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from itertools import count
from typing import Any

import torch
from torch import nn

from autoprune.analysis.resizing import sizes_of
from autoprune.errors import PlanError
from autoprune.frameworks.torch.arrays import get_tensor, set_tensor
from autoprune.frameworks.torch.cut import copy_without, cut_tensor, names_by_tensor
from autoprune.frameworks.torch.own_class.attributes import described_by_weight, entries_of
from autoprune.ir import axes as ax
from autoprune.ir.axes import Axis, Leaf
from autoprune.ir.plan import Plan
from autoprune.ir.plan_parts import Factor
from autoprune.ir.positions import unit_positions


def rebuild(model: nn.Module, plan: Plan, *, shared: bool = False) -> nn.Module:
    """A copy of `model`, of its own class, with parameters sliced and attributes set.

    With `shared`, parameters that keep their size are not copied; for what is not handed out.

    Raises:
        PlanError: if the model lacks a parameter or attribute of the plan, or has a parameter in
            another shape.
    """
    names = names_by_tensor(model)
    for name in plan.folded:
        if all(name not in tied for tied in names.values()):
            raise PlanError("the plan folds constants into no parameter", where=name)
    result = _cut_copy(model, plan, names, shared=shared)
    sizes = sizes_of(plan.choices())
    for path, entries in plan.attributes.items():
        for name, stated in entries.items():
            axes, held = plan.axes(stated), _attributes(result, path)
            old = held.get(name)
            if not axes or entries_of(old) != tuple(axis.size for axis in axes):
                raise _misfit(
                    f"the plan changes a size that is not in the model: {old!r} was expected to "
                    f"be {', '.join(str(axis.size) for axis in axes)}",
                    f"{path}.{name}",
                )
            new = [ax.size(axis, sizes) for axis in axes]
            held[name] = type(old)(new) if isinstance(old, tuple | list) else new[0]
    for path, constants in plan.constants.items():
        for name, (before, after) in constants.items():
            held = _attributes(result, path)
            if type(held.get(name, ())) not in (float, type(None)) or held[name] != before:
                raise _misfit(
                    f"the plan changes a number that is not in the model: {before} was expected",
                    f"{path}.{name}",
                )
            held[name] = after
    return result


def _attributes(model: nn.Module, path: str) -> dict[str, Any]:
    """What stands in the attributes of a module; nothing where there is none."""
    try:
        return vars(model.get_submodule(path))
    except AttributeError:
        return {}


def architecture_of(model: nn.Module) -> str:
    """Digest of the names and shapes of a model's parameters, and of which of them are one."""
    first: dict[int, str] = {}
    entries = [
        (name, first.setdefault(id(tensor), name), tuple(tensor.shape))
        for name, tensor in model.named_parameters(remove_duplicate=False)
    ]
    return hashlib.sha256(json.dumps(sorted(entries)).encode()).hexdigest()


def check_architecture(model: nn.Module, plan: Plan) -> None:
    """Check that a model has the parameters of the one that a plan was made for.

    Raises:
        PlanError: naming a parameter in another shape, if the plan names one.
    """
    for name, expressions in plan.parameters.items():
        _tensor_of_plan(model, name, plan.axes(expressions))
    if plan.architecture and architecture_of(model) != plan.architecture:
        raise PlanError(
            "the plan was made for another architecture: the model has other parameters, or ties "
            "others",
            where=type(model).__name__,
            hint="apply the plan to a fresh, uncut instance of the architecture it was made for",
        )


def check_layers(model: nn.Module, result: nn.Module) -> None:
    """Check that the layers of a cut model still say of themselves what their weights are.

    Plans of format 1 can lack an entry unnoticed.

    Args:
        model: the model before the cut.
        result: the model after it.

    Raises:
        PlanError: naming a layer whose attributes agreed with its weights only before.
    """
    for path, module in model.named_modules():
        lost = _agreeing(module) - _agreeing(result.get_submodule(path))
        if lost:
            raise PlanError(
                "the plan cuts only a part of this layer: an entry is missing",
                where=f"{path}: {min(lost)}",
                hint="use the plan as it was written",
            )


def _agreeing(module: nn.Module) -> set[str]:
    """Attributes of a layer that state the shape of its tensors."""
    numbers = count()
    owned = {
        name: tuple(Leaf(next(numbers), n) for n in tensor.shape)
        for name, tensor in module.named_parameters(recurse=False)
    }
    found = set(described_by_weight("", module, owned))
    bias = owned.get("bias", ())
    outputs = (vars(module).get(name) for name in ("out_features", "out_channels", "num_features"))
    return found | ({"bias"} if bias and bias[0].size in outputs else set())


def _tensor_of_plan(model: nn.Module, name: str, axes: Sequence[Axis]) -> torch.Tensor:
    """The tensor that a plan cuts, which has to be of the size it says."""
    try:
        tensor = get_tensor(model, name)
    except AttributeError:
        tensor = None
    if not isinstance(tensor, torch.Tensor):
        raise PlanError(
            "the plan cuts a parameter that the model does not have",
            where=name,
            hint="apply the plan to the architecture it was made for",
        )
    expected = tuple(axis.size for axis in axes)
    if tuple(tensor.shape) != expected:
        what = f"the plan expects shape {expected}, the model has {tuple(tensor.shape)}"
        raise _misfit(what, name)
    return tensor


def _misfit(what: str, where: str) -> PlanError:
    hint = "apply the plan to the uncut architecture it was made for"
    return PlanError(what, where=where, hint=hint)


def _cut_copy(
    model: nn.Module, plan: Plan, names: Mapping[int, list[str]], *, shared: bool
) -> nn.Module:
    """A copy in which each tensor the plan names is sliced, under all the names it is tied to."""
    kept = plan.choices()
    changed: dict[str, torch.Tensor] = {}
    for name, expressions in plan.parameters.items():
        axes = plan.axes(expressions)
        old = _tensor_of_plan(model, name, axes)
        factor = plan.factors.get(name)
        uid = list(plan.groups).index(factor.group) if factor and factor.group else None
        try:
            new = cut_tensor(old if factor is None else _scaled(old, axes, uid, factor), axes, kept)
        except ValueError as error:
            raise PlanError(
                str(error), where=name, hint="list the units of the group once, without `outer`"
            ) from error
        changed.update(dict.fromkeys(names.get(id(old), [name]), new))
    unchanged = [n for n, _ in model.named_parameters()] if shared else []
    result: nn.Module = copy_without(model, [*changed, *unchanged])
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
