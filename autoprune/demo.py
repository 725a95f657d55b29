"""`autoprune demo`: train, prune, fine-tune and deploy a small network on real data."""

from __future__ import annotations

import copy
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from torch import Tensor, nn
from torch.nn import functional as F

import autoprune
from autoprune.backends.onnx import export_onnx
from autoprune.frontends.torch import Inputs
from autoprune.report import Report, heading, milliseconds, plain_table, quantity, times_faster
from autoprune.torch_result import TorchResult

EPOCHS = 8
KEEP = 0.3
SIDE = 16
"""The digits are 8x8; enlarged to 16x16, so that there is enough work to measure."""


class Block(nn.Module):
    """Two convolutions and a shortcut around them."""

    def __init__(self, narrow: int, wide: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(narrow, wide, 3, stride, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(wide)
        self.conv2 = nn.Conv2d(wide, wide, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(wide)
        self.shortcut: nn.Module = nn.Identity()
        if stride > 1 or narrow != wide:
            self.shortcut = nn.Sequential(
                nn.Conv2d(narrow, wide, 1, stride, bias=False), nn.BatchNorm2d(wide)
            )

    def forward(self, x: Tensor) -> Tensor:
        """The sum of both ways through."""
        y = F.relu(self.norm1(self.conv1(x)))
        return F.relu(self.norm2(self.conv2(y)) + self.shortcut(x))


class DigitNet(nn.Module):
    """A residual network of three stages."""

    def __init__(self, widths: tuple[int, ...] = (32, 64, 128)) -> None:
        super().__init__()
        first = widths[0]
        self.stem = nn.Sequential(
            nn.Conv2d(1, first, 3, padding=1, bias=False), nn.BatchNorm2d(first), nn.ReLU()
        )
        blocks: list[nn.Module] = []
        narrow = first
        for i, wide in enumerate(widths):
            blocks += [Block(narrow, wide, 2 if i else 1), Block(wide, wide, 1)]
            narrow = wide
        self.blocks = nn.Sequential(*blocks)
        self.head = nn.Linear(narrow, 10)

    def forward(self, x: Tensor) -> Tensor:
        """Ten scores for each image."""
        scores: Tensor = self.head(self.blocks(self.stem(x)).mean(dim=(2, 3)))
        return scores


@dataclass(frozen=True)
class Digits:
    """Handwritten digits, split into training and test images."""

    train_x: Tensor
    train_y: Tensor
    test_x: Tensor
    test_y: Tensor


def load_digits(seed: int = 0) -> Digits:
    """The 1,797 digits that come with scikit-learn, a fifth of them for testing."""
    from sklearn.datasets import load_digits as load
    from sklearn.model_selection import train_test_split

    data = load()
    images = torch.tensor(data.images, dtype=torch.float32)[:, None] / 8 - 1
    images = F.interpolate(images, size=(SIDE, SIDE), mode="bilinear", align_corners=False)
    train, test = train_test_split(
        np.arange(len(images)), test_size=0.2, stratify=data.target, random_state=seed
    )
    labels = torch.tensor(data.target)
    return Digits(images[train], labels[train], images[test], labels[test])


@torch.no_grad()
def accuracy(model: nn.Module, digits: Digits) -> float:
    """Share of the test images that are recognized."""
    model.eval()
    right = [
        (model(x).argmax(1) == y).sum().item()
        for x, y in zip(digits.test_x.split(128), digits.test_y.split(128), strict=True)
    ]
    return float(sum(right)) / len(digits.test_y)


def train(
    model: nn.Module,
    digits: Digits,
    epochs: int,
    rate: float,
    advance: Callable[[], None] = lambda: None,
    seed: int = 0,
) -> list[float]:
    """Train with a falling learning rate.

    Args:
        model: trained in place.
        digits: the images.
        epochs: passes over the training images.
        rate: the highest learning rate.
        advance: called after every batch.
        seed: for the order of the images.

    Returns:
        The test accuracy after every epoch.
    """
    generator = torch.Generator().manual_seed(seed)
    size, count = 64, len(digits.train_x)
    optimizer = torch.optim.SGD(
        model.parameters(), lr=rate, momentum=0.9, nesterov=True, weight_decay=5e-4
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, rate, total_steps=epochs * batches(digits)
    )
    curve = []
    images = digits.train_x.to(memory_format=torch.channels_last)
    _lay_out(model, torch.channels_last)  # faster on processors
    for _ in range(epochs):
        model.train()
        for chosen in torch.randperm(count, generator=generator).split(size):
            optimizer.zero_grad()
            loss = F.cross_entropy(model(images[chosen]), digits.train_y[chosen])
            loss.backward()
            optimizer.step()
            schedule.step()
            advance()
        curve.append(accuracy(model, digits))
    _lay_out(model, torch.contiguous_format)
    return curve


def _lay_out(model: nn.Module, layout: torch.memory_format) -> None:
    model.to(memory_format=layout)  # type: ignore[call-overload]


def batches(digits: Digits) -> int:
    """Batches in an epoch."""
    return -(-len(digits.train_x) // 64)


def onnx_accuracy(path: Path, digits: Digits) -> float:
    """Share of the test images that ONNX Runtime recognizes with a saved network."""
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    guesses = [session.run(None, {name: x[None].numpy()})[0].argmax() for x in digits.test_x]
    return float(np.mean(np.array(guesses) == digits.test_y.numpy()))


@dataclass
class Story:
    """What happened, for the table and the plot.

    Attributes:
        original: the trained network.
        result: what pruning it gave; its model has been fine-tuned.
        trained: test accuracy after every epoch of training.
        tuned: test accuracy right after pruning and after every epoch of fine-tuning.
        onnx: accuracy of both in ONNX Runtime.
        files: what was written.
    """

    original: nn.Module
    result: TorchResult
    trained: list[float]
    tuned: list[float]
    onnx: tuple[float, float] = (0.0, 0.0)
    files: list[Path] = field(default_factory=list)

    @property
    def report(self) -> Report:
        """Costs before and after."""
        return self.result.report


def make_story(
    digits: Digits, epochs: int, bar: Progress, widths: tuple[int, ...] = (32, 64, 128)
) -> Story:
    """Train a network, prune it and fine-tune what is left."""
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
    return Story(model, result, trained, [pruned, *tuned])


def deploy(story: Story, digits: Digits, folder: Path) -> None:
    """Write everything, and check and time both networks in ONNX Runtime."""
    folder.mkdir(parents=True, exist_ok=True)
    inputs = Inputs((digits.test_x[:1],), {})
    before, after = folder / "original.onnx", folder / "pruned.onnx"
    export_onnx(copy.deepcopy(story.original), inputs, before)
    story.result.save(after)
    story.onnx = (onnx_accuracy(before, digits), onnx_accuracy(after, digits))
    story.result.measure(seconds=3.0)
    weights, plan = folder / "pruned.safetensors", folder / "plan.json"
    story.result.save(weights)
    story.result.plan.save(plan)
    story.report.save(folder / "report.json")
    plot(story, folder / "demo.png")
    story.files = [before, after, weights, plan, folder / "report.json", folder / "demo.png"]


def plot(story: Story, path: Path) -> None:
    """Accuracy over epochs, and how many channels of every group are left."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4.2), layout="constrained")
    start = len(story.trained)
    left.plot(range(1, start + 1), story.trained, marker="o", label="training")
    left.plot(
        range(start, start + len(story.tuned)), story.tuned, marker="o",
        label="pruned, then fine-tuned",
    )  # fmt: skip
    left.set(xlabel="epoch", ylabel="test accuracy", ylim=(0, 1.02))
    left.legend(loc="center right")
    rows = story.report.groups[::-1]
    names = [row.name.removesuffix(".weight:0") for row in rows]
    right.barh(names, [row.units for row in rows], color="0.85", label="before")
    right.barh(names, [row.kept for row in rows], label="kept")
    right.set(xlabel="channels in the group")
    right.legend(loc="upper right")
    figure.savefig(path, dpi=120)
    plt.close(figure)


def table(story: Story) -> Any:
    """Before, after and the ratio, as a rich table."""
    report, latency = story.report, story.report.latency
    sizes = [story.files[0].stat().st_size, story.files[1].stat().st_size]
    rows = plain_table()
    for column in ("", "original", "pruned and tuned", ""):
        rows.add_column(column, justify="right" if column else "left", no_wrap=True)
    rows.columns[3].justify = "right"
    change = story.tuned[-1] - story.trained[-1]
    rows.add_row(
        "test accuracy", f"{story.trained[-1]:.1%}", f"{story.tuned[-1]:.1%}",
        f"{change * 100:+.1f} points",
    )  # fmt: skip
    rows.add_row("  in ONNX Runtime", *(f"{a:.1%}" for a in story.onnx), "")
    costs: tuple[tuple[str, int, int, str], ...] = (
        ("parameters", report.before.params, report.after.params, ""),
        ("FLOPs an image", report.before.flops, report.after.flops, ""),
        ("ONNX file", sizes[0], sizes[1], "B"),
    )
    for name, before, after, unit in costs:
        rows.add_row(
            name, quantity(before) + unit, quantity(after) + unit, f"{after / before:.1%} kept"
        )
    if latency is not None:
        rows.add_row(
            "ONNX Runtime, 1 thread", milliseconds(latency.before), milliseconds(latency.after),
            times_faster(latency.before, latency.after),
        )  # fmt: skip
    return rows


def demo(folder: Path, epochs: int = EPOCHS, widths: tuple[int, ...] = (32, 64, 128)) -> Story:
    """Run everything, print one table and say where the files are."""
    start = time.perf_counter()
    digits = load_digits()
    folder.mkdir(parents=True, exist_ok=True)
    columns = (
        TextColumn("{task.description:<12}"), BarColumn(), TextColumn("{task.percentage:>3.0f}%"),
        TimeElapsedColumn(),
    )  # fmt: skip
    with Progress(*columns, console=Console(stderr=True)) as bar:
        story = make_story(digits, epochs, bar, widths)
        task = bar.add_task("ONNX Runtime", total=1)
        deploy(story, digits, folder)
        bar.advance(task)
    console = Console()
    console.print(
        f"\nA residual network on {len(digits.train_x)} handwritten digits, tested on "
        f"{len(digits.test_x)} others\n(scikit-learn's, enlarged from 8x8 to {SIDE}x{SIDE}).",
        highlight=False,
    )
    console.print(heading(f"Pruned to {KEEP:.0%} of the FLOPs and fine-tuned"))
    console.print(table(story))
    print(
        f"\nRight after pruning, before fine-tuning, the accuracy was {story.tuned[0]:.1%}.\n"
        f"One test image is {1 / len(digits.test_y):.1%}. "
        "Latency is the median of one image, both networks in turns."
    )
    console.print(heading(f"Files in {folder}"))
    for path in story.files:
        print(f"{path.name:<20} {_WHAT[path.name]}")
    print(f"\nDone in {time.perf_counter() - start:.0f} s.")
    return story


_WHAT = {
    "original.onnx": "the trained network",
    "pruned.onnx": "the pruned and fine-tuned one",
    "pruned.safetensors": "its weights with the plan, for autoprune.load",
    "plan.json": "which channels were kept",
    "report.json": "costs, groups, guarantees, latency",
    "demo.png": "accuracy over epochs, channels kept",
}
