"""Weights and constants: plain numbers, and where in them each tensor lies."""

from __future__ import annotations

import json
from collections.abc import Sequence
from math import prod
from typing import Any

import torch
from torch import nn
from torch._export.serde.schema import Device
from torch._export.serde.serialize import deserialize_device, deserialize_scalar_type

from autoprune.frameworks.torch.pt2.records import Records, Refused

SPREAD = 2**30
"""Bytes by which all tensors together may be larger than what is stored of them."""


def read_tensors(records: Records, folder: str, prefix: str) -> dict[str, torch.Tensor]:
    """The tensors that a folder of an archive holds, by name.

    Args:
        records: the archive.
        folder: the folder, such as `data/weights`.
        prefix: how the files of plain numbers are called; others hold pickled objects.

    Raises:
        Refused: if one is pickled, or large only because its numbers are repeated.
    """
    config = json.loads(records.read(f"{folder}/model_{folder.rpartition('/')[2]}_config.json"))
    stored: dict[str, torch.Tensor] = {}
    found: dict[str, torch.Tensor] = {}
    spread = 0
    for name, entry in config["config"].items():
        file, meta = str(entry["path_name"]), entry["tensor_meta"]
        if entry["use_pickle"] or not file.startswith(prefix):
            raise Refused(f"a pickled object ({file})")
        if file not in stored:
            stored[file] = _bytes(records.read(f"{folder}/{file}"))
        tensor = _placed(stored[file], meta)
        spread += max(0, tensor.nbytes - stored[file].nbytes)
        if spread > SPREAD:
            raise Refused(f"tensors that are {spread} bytes larger than what is stored")
        device = deserialize_device(Device(**meta["device"]))
        if device.type != "cpu":
            tensor = tensor.to(device)
        gradient = bool(meta["requires_grad"])
        is_weight = bool(entry["is_param"])
        found[name] = nn.Parameter(tensor, gradient) if is_weight else tensor
    return found


def _bytes(data: bytes) -> torch.Tensor:
    empty = torch.empty(0, dtype=torch.uint8)
    return torch.frombuffer(bytearray(data), dtype=torch.uint8) if data else empty


def _placed(data: torch.Tensor, meta: Any) -> torch.Tensor:
    """The tensor that lies in a storage; torch refuses one that lies outside of it."""
    sizes, strides = _integers(meta["sizes"]), _integers(meta["strides"])
    (offset,) = _integers([meta["storage_offset"]])
    dtype = deserialize_scalar_type(meta["dtype"])
    if prod(sizes) * dtype.itemsize > 2**62:
        raise Refused(f"a tensor of size {sizes}")
    return torch.as_strided(data.view(dtype), sizes, strides, offset)


def _integers(values: Sequence[Any]) -> tuple[int, ...]:
    return tuple(int(value["as_int"]) for value in values)
