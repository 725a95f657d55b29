"""What is made of a network: files that a worker can run, for each variant."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from torch import nn

import autoprune as ap
from autoprune.frameworks.torch.export_onnx import export_onnx
from autoprune.frameworks.torch.objects import Inputs
from autoprune.passes.lower.compiled import Compiled
from autoprune.passes.lower.simplify import simplified
from benchmarks.deploy.models import Network, formats_of
from benchmarks.deploy.xnnpack import unfit

DENSE = "dense"

PERCENTS = (70, 80, 90)
"""Of the weights that are zero."""

BATCHES = 4
"""Of one image each, from which the 8 bits of convolutional networks know their ranges."""


@dataclass(frozen=True)
class Variant:
    """Something to time.

    Attributes:
        name: in tables.
        engine: `onnxruntime`, `runtime`, `openvino`, `xnnpack` or `xnnpack-sparse`.
        path: of the model or artifact.
        flops: share of the FLOPs of the dense network, if units were removed.
        note: what else is to be said.
    """

    name: str
    engine: str
    path: Path
    flops: float | None = None
    note: str = ""


def variants(network: Network, folder: Path) -> Iterator[Variant]:
    """Make all variants of a network.

    Args:
        network: what is made of.
        folder: where files are written.
    """
    torch.manual_seed(0)
    model, x = network.build().eval(), network.example()
    (folder / "feed.npz").unlink(missing_ok=True)
    path = folder / "dense.onnx"
    export_onnx(model, Inputs((x,), {}), path)
    (name,) = (value.name for value in onnx.load(path).graph.input)
    np.savez(folder / "feed.npz", **{name: x.numpy()})
    yield Variant(DENSE, "onnxruntime", path)
    yield Variant("int8 of ONNX Runtime", "onnxruntime", quantized(network, path, name, x))
    if find_spec("openvino"):
        yield Variant("OpenVINO", "openvino", path)
    reason = unfit(folded := simplified(onnx.load(path)))
    print(f"{network.name}: " + (f"not on XNNPACK: {reason}" if reason else "also on XNNPACK"))
    if not reason:
        onnx.save(folded, folder / "folded.onnx")
        yield Variant("XNNPACK", "xnnpack", folder / "folded.onnx")
    for percent in PERCENTS:
        blocks, compiled = _blocks(model, x, percent, folder)
        yield blocks
        if not reason:
            same = folder / f"{blocks.name}.onnx"
            same.write_bytes(compiled.contents.dense)
            yield Variant(f"XNNPACK, {blocks.name}", "xnnpack-sparse", same)
    calibration = None if network.encoder else [network.example() for _ in range(BATCHES)]
    for percent in PERCENTS:
        yield _blocks(model, x, percent, folder, int8=True, calibration=calibration)[0]
    pruned = ap.prune(model, x, channels=0.5, multiple_of=None if network.encoder else 16)
    pruned.save(folder / "pruned.onnx")
    costs = pruned.report
    share = costs.after.flops / costs.before.flops
    yield Variant("channels 50 %", "onnxruntime", folder / "pruned.onnx", share)
    yield _blocks(pruned.model, x, 80, folder, prefix="channels 50 %, ", flops=share)[0]


def _blocks(
    model: nn.Module, x: torch.Tensor, percent: int, folder: Path,
    *, int8: bool = False, calibration: Sequence[torch.Tensor] | None = None, prefix: str = "",
    flops: float | None = None,
) -> tuple[Variant, Compiled]:  # fmt: skip
    formats = formats_of(model, int8=int8)
    sparse = ap.sparsify(copy.deepcopy(model), x, format=formats, sparsity=percent / 100)
    compiled = ap.compile(sparse, int8=int8, calibration=calibration)
    name = f"{prefix}blocks {percent} %{', int8' if int8 else ''}"
    path = folder / f"{name}.apz"
    compiled.save(path)
    used = [layer for layer in compiled.layers if layer.rows]
    note = f"{len(used)} of {len(compiled.layers)} products sparse"
    return Variant(name, "runtime", path, flops, note), compiled


def quantized(network: Network, path: Path, name: str, x: torch.Tensor) -> Path:
    """ONNX Runtime's 8 bits: dynamic for encoders, static for convolutional networks."""
    from onnxruntime import quantization as q
    from onnxruntime.quantization.shape_inference import quant_pre_process

    prepared, made = path.with_name("prepared.onnx"), path.with_name("int8.onnx")
    quant_pre_process(str(path), str(prepared))
    if network.encoder:
        q.quantize_dynamic(prepared, made, per_channel=True)
        return made

    class Reader(q.CalibrationDataReader):  # type: ignore[misc]
        left = BATCHES

        def get_next(self) -> dict[str, Any] | None:
            self.left -= 1
            return {name: network.example().numpy()} if self.left >= 0 else None

    q.quantize_static(
        prepared, made, Reader(), per_channel=True, quant_format=q.QuantFormat.QDQ,
        activation_type=q.QuantType.QUInt8, weight_type=q.QuantType.QInt8,
    )  # fmt: skip
    return made
