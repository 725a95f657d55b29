"""What the demo does: train, prune, fine-tune, make sparse, compile, and measure all of it."""

from __future__ import annotations

import copy
import platform
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace

import torch
from rich.progress import Progress
from torch import nn

import autoprune
from autoprune.cli.demo.digits import (
    DigitNet,
    Digits,
    accuracy,
    batches,
    onnx_accuracy,
    recognized,
    train,
)
from autoprune.frameworks.onnx.sessions import open_session
from autoprune.frameworks.onnx.timing import time_in_turns
from autoprune.frameworks.torch.export_onnx import export_onnx
from autoprune.frameworks.torch.objects import Inputs
from autoprune.ir.files import write_atomically
from autoprune.passes.learners.masks import SparseResult
from autoprune.passes.pruning.result import Result
from autoprune.report import Report

KEEP = 0.3
"""Of the FLOPs."""

SPARSITY = 0.8
"""Share of the weights of convolutions that stay which become zero."""

BLOCKS = "block 8x4"
"""Format of the zeros; 8-bit integers need four inputs."""

CALIBRATION = 32
"""Training images from which 8-bit integers know their ranges."""

WIDTHS = (32, 64, 128)

TARGET = {"aarch64": "arm64", "arm64": "arm64"}.get(platform.machine(), "x86-64")


@dataclass(frozen=True)
class Artifact:
    """The sparse network, compiled.

    Attributes:
        path: of the file.
        digest: with which its native code is trusted.
        accuracy: share of the test images that the runtime recognizes with it.
        latency: milliseconds of one image, in turns with the original network.
        speedup: over the original network in ONNX Runtime.
    """

    path: Path
    digest: str
    accuracy: float
    latency: float
    speedup: float


@dataclass
class Story:
    """What happened, for the table and the plot.

    Attributes:
        original: the trained network.
        result: what pruning it gave; its model has been fine-tuned.
        sparse: the same network with zeros in its weights.
        trained: test accuracy after every epoch of training.
        tuned: test accuracy right after pruning and after every epoch of fine-tuning.
        sparsified: test accuracy after every epoch in which weights became zero.
        onnx: accuracy of the original and the pruned network in ONNX Runtime.
        artifact: the compiled network, or why there is none.
        int8: the same with 8-bit integers, or why there is none.
        files: what was written.
    """

    original: nn.Module
    result: Result[nn.Module]
    sparse: SparseResult[nn.Module]
    trained: list[float]
    tuned: list[float]
    sparsified: list[float]
    onnx: tuple[float, float] = (0.0, 0.0)
    artifact: Artifact | str = ""
    int8: Artifact | str = ""
    files: list[Path] = field(default_factory=list)

    @property
    def report(self) -> Report:
        """Costs before and after."""
        return self.result.report


def make_story(
    digits: Digits, epochs: int, bar: Progress, widths: tuple[int, ...] = WIDTHS
) -> Story:
    """Train a network, prune it, fine-tune what is left, and make that sparse."""
    torch.manual_seed(0)
    model, tuning = DigitNet(widths), max(1, epochs // 2)

    def step(text: str, epochs: int) -> Callable[[], None]:
        task = bar.add_task(text, total=epochs * batches(digits))
        return lambda: bar.advance(task)

    trained = train(model, digits, epochs, 0.1, step("training", epochs))
    task = bar.add_task("pruning", total=1)
    result = autoprune.prune(model, digits.test_x[:1], flops=KEEP)
    pruned = accuracy(result.model, digits)
    bar.advance(task)
    tuned = train(result.model, digits, tuning, 0.03, step("fine-tuning", tuning))
    sparsifier = autoprune.Sparsifier(
        copy.deepcopy(result.model), digits.test_x[:1],
        format={"blocks.*conv*": BLOCKS}, sparsity=SPARSITY,
    )  # fmt: skip
    sparsified = train(
        sparsifier.model, digits, epochs, 0.03, step("sparsifying", epochs),
        wrap=lambda optimizer, steps: sparsifier.gmp(optimizer, steps=steps),
    )  # fmt: skip
    return Story(model, result, sparsifier.finish(), trained, [pruned, *tuned], sparsified)


def deploy(story: Story, digits: Digits, folder: Path) -> None:
    """Write everything, and check and time all networks as they will be used."""
    folder.mkdir(parents=True, exist_ok=True)
    inputs = Inputs((digits.test_x[:1],), {})
    before, after = folder / "original.onnx", folder / "pruned.onnx"
    export_onnx(story.original, inputs, before)
    story.result.save(after)
    story.onnx = (onnx_accuracy(before, digits), onnx_accuracy(after, digits))
    story.result.measure(seconds=3.0)
    weights, plan = folder / "pruned.safetensors", folder / "plan.json"
    story.result.save(weights)
    story.result.plan.save(plan)
    story.report.save(folder / "report.json")
    story.files = [before, after, weights, plan, folder / "report.json"]
    missing = _missing()
    story.artifact = missing or _artifact(story, digits, folder / "digits.apz")
    images = list(digits.train_x[:CALIBRATION, None])
    story.int8 = (
        missing
        or _missing_int8()
        or _artifact(story, digits, folder / "digits_int8.apz", calibration=images)
    )
    for artifact in (story.artifact, story.int8):
        if isinstance(artifact, Artifact):
            story.files += [artifact.path, artifact.path.with_suffix(".digest")]


def _missing() -> str:
    """What compiling needs that is not installed."""
    if find_spec("tvm") is None:
        return "TVM is not installed: pip install 'autoprune[compile]'"
    if shutil.which("gcc") is None:
        return "gcc is not installed"
    return ""


def _missing_int8() -> str:
    """What 8-bit integers need that this processor has not."""
    from autoprune.passes.lower.compile_options import CompileOptions, runs_here

    if runs_here(CompileOptions((TARGET,), int8=True).processors()) is None:
        return "this processor has no dot products of 8-bit integers"
    return ""


def _artifact(
    story: Story, digits: Digits, path: Path, *, calibration: Sequence[torch.Tensor] | None = None
) -> Artifact:
    """Compile the sparse network, verify the file, and run it as on a device."""
    from autoprune.runtime import Session

    compiled = autoprune.compile(
        story.sparse, target=TARGET, measure=False, int8=bool(calibration), calibration=calibration
    )
    digest = compiled.save(path)
    write_atomically(path.with_suffix(".digest"), digest.encode())
    session = Session(path, digest=digest, threads=1)
    session.verify()
    (name,) = (spec.name for spec in session.inputs)
    (output,) = (spec.name for spec in session.outputs)
    original = open_session(path.with_name("original.onnx"), 1)
    image = digits.test_x[:1].numpy()
    runtime = SimpleNamespace(run=lambda _, feed: session.run(feed))
    latency = time_in_turns(
        (original, {original.get_inputs()[0].name: image}), (runtime, {name: image}),
        threads=1, seconds=3.0,
    )  # fmt: skip
    right = recognized(lambda image: session.run({name: image})[output], digits)
    return Artifact(path, digest, right, latency.after, latency.speedup)
