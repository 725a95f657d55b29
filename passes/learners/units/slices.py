"""Units of all groups in the parameters of a network, as tensors with one number per unit.

The units of all groups are numbered one after the other. In every parameter, each position along a
dimension that occurs in a group belongs to one of them or to none, so a sum over all slices of
every unit is a sum along the other dimensions followed by an addition by unit number: nothing
loops over units.

Under fully sharded data parallelism a parameter is a `DTensor`; every process looks at the part it
holds, and the sums are added up over the processes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType

import numpy as np
import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh

from autoprune.analysis.guarantees import spared_parameters
from autoprune.ir.group import Group
from autoprune.ir.positions import Indices, owners
from autoprune.passes.learners.sharding import (
    held,
    is_sharded,
    local_part,
    mesh_of,
    replicas,
    sum_over,
)
from autoprune.passes.pruning.analysed import Analysis


@dataclass(frozen=True, eq=False)
class Slices:
    """The units in one parameter.

    Complex numbers are seen as pairs of real ones, along a last dimension more.

    Attributes:
        parameter: the parameter.
        owners: pairs of a dimension and the unit that each (local) position along it belongs to;
            the number of all units where to none.
        counts: of the shape of what this process holds, 0 where weights do nothing, such as under
            a mask, and 1 elsewhere; None for ones.
    """

    parameter: nn.Parameter
    owners: tuple[tuple[int, Tensor], ...]
    counts: Tensor | None = None

    @property
    def local(self) -> Tensor:
        """The values this process holds, without their history."""
        return _as_real(local_part(self.parameter.detach()))

    @property
    def gradient(self) -> Tensor | None:
        """The gradient this process holds, if there is one."""
        gradient = self.parameter.grad
        return None if gradient is None else _as_real(local_part(gradient))

    @property
    def dense_gradient(self) -> Tensor:
        """The gradient this process holds in float32; zeros if there is none."""
        gradient = self.gradient
        if gradient is None:
            return torch.zeros_like(self.local, dtype=torch.float32)
        return (gradient.to_dense() if gradient.is_sparse else gradient).float()

    def spread(self, values: Tensor, dim: int, owner: Tensor, rest: float) -> Tensor:
        """One number per unit, along its positions; `rest` where there is no unit.

        Returns a tensor that broadcasts against the parameter.
        """
        padded = torch.cat((values, values.new_full((1,), rest)))
        along = padded.to(owner.device)[owner]
        dims = self.parameter.ndim + self.parameter.is_complex()
        return along.reshape([-1 if d == dim else 1 for d in range(dims)])


@dataclass(frozen=True, eq=False)
class Units:
    """The units of some groups.

    Attributes:
        groups: the groups; their units are numbered one after the other.
        slices: the parameters the units lie in.
        device: where sums are made.
        meshes: the processes that share parameters, in the same order in all of them.
    """

    groups: tuple[Group, ...]
    slices: tuple[Slices, ...]
    device: torch.device
    meshes: tuple[DeviceMesh, ...]

    @property
    def count(self) -> int:
        return sum(group.units for group in self.groups)

    def split(self, values: Tensor) -> list[Tensor]:
        """One number per unit -> the numbers of each group."""
        return list(values.split([group.units for group in self.groups]))

    def zeros(self) -> Tensor:
        return torch.zeros(self.count, device=self.device)

    def none(self) -> Tensor:
        return torch.zeros(self.count, dtype=torch.bool, device=self.device)

    @torch.no_grad()
    def sums(self, elements: Callable[[int, Slices], Tensor]) -> Tensor:
        """Sums over all slices of every unit, without weights that do nothing.

        Args:
            elements: what to sum for the i-th parameter, in the shape of its local part.

        Returns:
            float32 tensor of shape [units].
        """
        total = torch.zeros(self.count + 1, device=self.device)
        # A process may hold nothing of the parameters looked at, and has to take part even so.
        partial = {mesh: torch.zeros_like(total) for mesh in self.meshes}
        for i, part in enumerate(self.slices):
            mesh = mesh_of(part.parameter)
            target = total if mesh is None else partial[mesh]
            values = elements(i, part)
            if part.counts is not None:
                values = values * part.counts
            _add_by_unit(target, part, values, 1 / replicas(part.parameter))
        sum_over(partial)
        for shared in partial.values():
            total += shared
        return total[:-1]

    def norms(self) -> Tensor:
        """Euclidean norm of every unit; shape [units]."""
        return self.sums(lambda _, part: part.local.float().square()).sqrt()

    def sizes(self) -> Tensor:
        """Number of scalars of every unit; shape [units]."""
        return self.sums(lambda _, part: torch.ones_like(part.local, dtype=torch.float32))

    def copies(self) -> list[Tensor]:
        return [part.local.clone() for part in self.slices]

    def add_decay(self, coefficients: Tensor) -> None:
        """Add multiples, of shape [units], of the weights to the gradients.

        Parameters without a gradient, or with a sparse one, are left out.
        """
        found = [part.gradient for part in self.slices]
        gradients = [None if g is None or g.is_sparse else g for g in found]
        self.add(coefficients, gradients, [part.local for part in self.slices])

    def among(self, mask: Tensor) -> Units:
        """The same numbering, but only the parameters in which one of some units lies."""
        padded = torch.cat((mask, mask.new_zeros(1)))
        chosen = [
            replace(
                part,
                owners=tuple(
                    (dim, owner)
                    for dim, owner in part.owners
                    if bool(padded.to(owner.device)[owner].any())
                ),
            )
            for part in self.slices
        ]
        return replace(self, slices=tuple(part for part in chosen if part.owners))

    @torch.no_grad()
    def scale(self, factors: Tensor) -> None:
        """Multiply every slice of every unit by its factor, in place; shape [units]."""
        for part in self.slices:
            for dim, owner in part.owners:
                values = part.local
                values.mul_(part.spread(factors, dim, owner, 1.0).to(values.dtype))

    @torch.no_grad()
    def add(
        self,
        coefficients: Tensor,
        to: Sequence[Tensor | None],
        of: Sequence[Tensor],
        rates: Sequence[float] | None = None,
    ) -> None:
        """Add multiples of tensors, by unit, to other tensors, in place.

        Args:
            coefficients: shape [units]; an element of two units gets the sum of theirs.
            to: for each parameter, what is added to; None to leave it out.
            of: for each parameter, what is multiplied.
            rates: for each parameter, a factor on all coefficients.
        """
        factors = rates or [1.0] * len(self.slices)
        for part, target, source, rate in zip(self.slices, to, of, factors, strict=True):
            if target is not None:
                for dim, owner in part.owners:
                    along = part.spread(coefficients, dim, owner, 0.0)
                    target.addcmul_(source, along.to(target.dtype), value=rate)


class Zeros:
    """Some units of a network, prepared to be set to zero after every step."""

    def __init__(self, units: Units, mask: Tensor) -> None:
        stays = (~mask).float()
        # Multiplying everything is faster than setting rows and columns.
        self._factors = [
            (part, part.spread(stays, dim, owner, 1.0).to(part.local.dtype))
            for part in units.among(mask).slices
            for dim, owner in part.owners
        ]

    @torch.no_grad()
    def write(self) -> None:
        for part, factors in self._factors:
            part.local.mul_(factors)


def _as_real(tensor: Tensor) -> Tensor:
    return torch.view_as_real(tensor) if tensor.is_complex() else tensor


def _add_by_unit(total: Tensor, part: Slices, values: Tensor, weight: float) -> None:
    dims = {dim for dim, _ in part.owners}
    others = [d for d in range(values.ndim) if d not in dims]
    if others:
        values = values.sum(others, keepdim=True, dtype=torch.float32)
    for dim, owner in part.owners:
        rest = [d for d in range(values.ndim) if d != dim]
        along = values.sum(rest, dtype=torch.float32) if rest else values.float()
        total.index_add_(0, owner.to(total.device), along.to(total.device), alpha=weight)


def find_units(
    analysis: Analysis,
    groups: Sequence[Group],
    model: nn.Module,
    dead: Mapping[str, Tensor] = MappingProxyType({}),
) -> Units:
    """The units of groups in a model's trained parameters.

    What need not be zero for a unit to be zero (directions of normalized weights, readers of
    constants) is left out.

    Args:
        analysis: of the model.
        groups: the groups whose units are meant.
        model: the model, whose parameters may have been replaced by sharded ones.
        dead: by parameter, where its weights do nothing.
    """
    typed = analysis.typed
    spared = spared_parameters(typed, groups)
    count = sum(g.units for g in groups)
    along: dict[str, list[tuple[int, Indices]]] = {}
    start = 0
    for group in groups:
        for occurrence in group.occurrences:
            name, dim = occurrence.parameter, occurrence.dim
            if analysis.graph.parameter_of[name].kind == "parameter" and (
                group.leaf.uid not in spared.get(name, ())
            ):
                axis = typed.types[name][dim]
                for owner in owners(axis, group.leaf.uid):
                    numbered = np.where(owner < 0, count, start + owner)
                    along.setdefault(name, []).append((dim, numbered))
        start += group.units
    parameters: Mapping[str, nn.Parameter] = dict(model.named_parameters(remove_duplicate=False))
    slices = []
    for name, places in along.items():
        names = analysis.graph.parameter_of[name].names
        parameter = next(parameters[n] for n in names if n in parameters)
        device = local_part(parameter).device
        positions = held(parameter)
        slices.append(
            Slices(
                parameter,
                tuple(
                    (dim, torch.from_numpy(owner[positions[dim]]).to(device))
                    for dim, owner in places
                ),
                _counts(parameter, next((dead[n] for n in names if n in dead), None)),
            )
        )
    meshes = dict.fromkeys(mesh_of(part.parameter) for part in slices)
    return Units(
        tuple(groups),
        tuple(slices),
        slices[0].local.device if slices else torch.device("cpu"),
        tuple(mesh for mesh in meshes if mesh is not None),
    )


def _counts(parameter: nn.Parameter, dead: Tensor | None) -> Tensor | None:
    """What of a parameter counts; of sharded ones everything does."""
    if dead is None or is_sharded(parameter):
        return None
    counts = (~dead).to(parameter.device, torch.float32)
    return counts[..., None] if parameter.is_complex() else counts
