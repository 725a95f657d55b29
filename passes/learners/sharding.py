"""Several processes that train one model together, and may hold a part of each parameter only.

Under fully sharded data parallelism parameters are `DTensor`s; functions of tensors leave others as
they are.
"""

from __future__ import annotations

from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.distributed import ProcessGroup
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import FSDPModule
from torch.distributed.tensor import DTensor, Replicate

from autoprune.frameworks.torch.trace import copy_of

T = TypeVar("T")


def is_sharded(tensor: Tensor) -> bool:
    """Whether every process holds only a part of a tensor."""
    return isinstance(tensor, DTensor)


def local_part(tensor: Tensor) -> Tensor:
    """The part of a tensor that this process holds."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def held(tensor: Tensor) -> tuple[slice, ...]:
    """The positions along each dimension that this process holds."""
    if not isinstance(tensor, DTensor):
        return (slice(None),) * tensor.ndim
    from torch.distributed.tensor._utils import compute_local_shape_and_global_offset

    shape, offset = compute_local_shape_and_global_offset(
        tensor.shape, tensor.device_mesh, tensor.placements
    )
    return tuple(slice(start, start + size) for start, size in zip(offset, shape, strict=True))


def mesh_of(tensor: Tensor) -> DeviceMesh | None:
    """The processes that share a tensor."""
    return tensor.device_mesh if isinstance(tensor, DTensor) else None


def replicas(tensor: Tensor) -> int:
    """How many of the processes that share a tensor hold each of its elements."""
    count = 1
    if isinstance(tensor, DTensor):
        for dim, placement in enumerate(tensor.placements):
            if isinstance(placement, Replicate):
                count *= tensor.device_mesh.size(dim)
    return count


def whole_tensor(tensor: Tensor) -> Tensor:
    """A tensor's values; if it is sharded, all processes have to ask for them together."""
    values = tensor.detach()
    return values.full_tensor() if isinstance(values, DTensor) else values


def whole_of(part: Tensor, like: Tensor) -> Tensor:
    """The whole of a tensor that is sharded as another one, from the parts that processes hold.

    All of them have to ask for it together.
    """
    if not isinstance(like, DTensor):
        return part
    sharded = DTensor.from_local(
        part, like.device_mesh, like.placements, shape=like.shape, stride=like.stride()
    )
    return sharded.full_tensor()


def reshard(model: nn.Module) -> None:
    """Make a model forget the whole weights that a forward pass without a backward pass left.

    They would not follow a change of the parts, and stand in the place of the sharded parameters.
    """
    for module in model.modules():
        if isinstance(module, FSDPModule):
            module.reshard()


def gathered(
    model: nn.Module, skeleton: nn.Module, device: torch.device, group: ProcessGroup | None
) -> nn.Module:
    """A model on a device and put together again if it was sharded; itself if it is so already.

    Args:
        model: the model; if it is sharded, all processes have to ask together.
        skeleton: one of the same structure, as it was before sharding; may be without weights.
        device: where it is to be.
        group: the processes that train together.
    """
    reshard(model)
    parameters = dict(model.named_parameters(remove_duplicate=False))
    sharded = any(map(is_sharded, parameters.values()))
    if not sharded and all(p.device == device for p in parameters.values()):
        return model
    # Parameters that are one stay one.
    whole = {
        parameter: nn.Parameter(whole_tensor(parameter).to(device), parameter.requires_grad)
        for parameter in parameters.values()
    }
    buffers = dict(model.named_buffers(remove_duplicate=False))
    copied = copy_of(skeleton)
    for prefix, module in copied.named_modules(remove_duplicate=False):
        start = f"{prefix}." if prefix else ""
        for name in dict(module.named_parameters(recurse=False)):
            module.register_parameter(name, whole[parameters[start + name]])
        for name in dict(module.named_buffers(recurse=False)):
            buffer = whole_tensor(buffers[start + name]).clone()
            if sharded:  # each process has statistics of its own batches
                buffer = agreed(buffer, group)
            setattr(module, name, buffer.to(device))
    return copied.train(model.training)


def first_of(value: T, group: ProcessGroup | None, device: torch.device) -> T:
    """A value, which can be pickled, of the first process of a group, in all of them."""
    values = [value]
    if torch.distributed.is_initialized():
        torch.distributed.broadcast_object_list(values, group=group, group_src=0, device=device)
    return values[0]


def agreed(values: Tensor, group: ProcessGroup | None = None) -> Tensor:
    """Values of the first process of a group, so that all of them decide alike; in place."""
    if torch.distributed.is_initialized():
        torch.distributed.broadcast(values, group=group, group_src=0)
    return values


def anywhere(flags: Tensor, group: ProcessGroup | None = None) -> Tensor:
    """Which flags are set in some process of a group, so that all of them fail alike."""
    if torch.distributed.is_initialized():
        counts = flags.int()
        torch.distributed.all_reduce(counts, group=group)
        return counts > 0
    return flags


def sum_over(meshes: dict[DeviceMesh, Tensor]) -> None:
    """Add up tensors, each over the processes of its mesh, in place."""
    for mesh, partial in meshes.items():
        for group in mesh.get_all_groups():
            torch.distributed.all_reduce(partial, group=group)
