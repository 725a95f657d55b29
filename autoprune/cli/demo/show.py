"""The demo on a terminal and as a plot."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from autoprune.cli.demo.digits import SIDE, load_digits
from autoprune.cli.demo.story import KEEP, SPARSITY, WIDTHS, Artifact, Story, deploy, make_story
from autoprune.ir.files import replacing
from autoprune.report import heading, milliseconds, plain_table, quantity, show
from autoprune.report.progress import progress

EPOCHS = 8

FILES = {
    "original.onnx": "the trained network",
    "pruned.onnx": "the pruned and fine-tuned one",
    "pruned.safetensors": "its weights with the plan, for autoprune.load",
    "plan.json": "which channels were kept",
    "report.json": "costs, groups, guarantees, latency",
    "digits.apz": "the sparse network with its kernels, for autoprune-runtime",
    "digits.digest": "what the runtime trusts its native code by",
    "digits_int8.apz": "the same in 8-bit integers",
    "digits_int8.digest": "its digest",
    "demo.png": "accuracy over epochs, channels kept",
}


def plot(story: Story, path: Path) -> None:
    """Accuracy over epochs, and how many channels of every group are left."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4.2), layout="constrained")
    start = 0
    for label, curve in (
        ("training", story.trained),
        ("pruned, then fine-tuned", story.tuned),
        ("weights become zero", story.sparsified),
    ):
        # The first point of fine-tuning is the network as it was pruned.
        start += label == "weights become zero" or not start
        left.plot(range(start, start + len(curve)), curve, marker="o", label=label)
        start += len(curve) - 1
    left.set(xlabel="epoch", ylabel="test accuracy", ylim=(0, 1.02))
    left.legend(loc="center right")
    rows = story.report.groups[::-1]
    names = [row.name.removesuffix(".weight:0") for row in rows]
    right.barh(names, [row.units for row in rows], color="0.85", label="before")
    right.barh(names, [row.kept for row in rows], label="kept")
    right.set(xlabel="channels in the group")
    right.legend(loc="upper right")
    with replacing(path) as file:
        figure.savefig(file, dpi=120, format="png")
    plt.close(figure)


def table(story: Story) -> Any:
    """The networks beside each other, as a rich table."""
    report, latency = story.report, story.report.latency
    made = [a for a in (story.artifact, story.int8) if isinstance(a, Artifact)]
    rows = plain_table()
    for column in ("", "original", "pruned", "and sparse", *["in 8 bits"] * (len(made) > 1)):
        rows.add_column(column, justify="right" if column else "left", no_wrap=True)
    zeros = sum(int((~mask).sum()) for mask in story.sparse.masks.values())
    sizes = [quantity(path.stat().st_size) + "B" for path in story.files[:2]]
    rows.add_row(
        "test accuracy", f"{story.trained[-1]:.1%}", f"{story.tuned[-1]:.1%}",
        f"{story.sparsified[-1]:.1%}",
    )  # fmt: skip
    rows.add_row(
        "  as deployed", *(f"{share:.1%}" for share in story.onnx),
        *(f"{artifact.accuracy:.1%}" for artifact in made),
    )  # fmt: skip
    before, after = report.before, report.after
    rows.add_row(
        "weights that are not zero", quantity(before.params), quantity(after.params),
        quantity(after.params - zeros),
    )  # fmt: skip
    rows.add_row("FLOPs an image", quantity(before.flops), quantity(after.flops), "")
    rows.add_row("file", *sizes, *(quantity(a.path.stat().st_size) + "B" for a in made))
    if latency is not None:
        rows.add_row(
            "latency, 1 thread", milliseconds(latency.before), milliseconds(latency.after),
            *(milliseconds(artifact.latency) for artifact in made),
        )  # fmt: skip
        rows.add_row(
            "  times faster", "", f"{latency.speedup:.2f}x",
            *(f"{artifact.speedup:.2f}x" for artifact in made),
        )  # fmt: skip
    return rows


def demo(folder: Path, epochs: int = EPOCHS, widths: tuple[int, ...] = WIDTHS) -> Story:
    """Run everything, print one table and say where the files are."""
    start = time.perf_counter()
    digits = load_digits()
    folder.mkdir(parents=True, exist_ok=True)
    columns = (
        TextColumn("{task.description:<12}"), BarColumn(), TextColumn("{task.percentage:>3.0f}%"),
        TimeElapsedColumn(),
    )  # fmt: skip
    with Progress(*columns, console=Console(stderr=True)) as bar, progress(None):
        story = make_story(digits, epochs, bar, widths)
        task = bar.add_task("deploying", total=1)
        deploy(story, digits, folder)
        plot(story, folder / "demo.png")
        story.files.append(folder / "demo.png")
        bar.advance(task)
    print(
        f"\nA residual network on {len(digits.train_x)} handwritten digits, tested on "
        f"{len(digits.test_x)} others\n(scikit-learn's, enlarged from 8x8 to {SIDE}x{SIDE})."
    )
    title = f"Pruned to {KEEP:.0%} of the FLOPs, then {SPARSITY:.0%} of the weights made zero"
    show(heading(title), f"\n{title}")
    show(table(story))
    print(
        f"\nRight after pruning, before fine-tuning, the accuracy was {story.tuned[0]:.1%}.\n"
        f"One test image is {1 / len(digits.test_y):.1%}. Latency is the median of one image, in "
        "turns with the\noriginal network, in ONNX Runtime; the sparse network runs on kernels of "
        "its own there."
    )
    if isinstance(story.artifact, str):
        print(f"The sparse network was not compiled: {story.artifact}.")
    elif isinstance(story.int8, str):
        print(f"It was not compiled in 8 bits: {story.int8}.")
    show(heading(f"Files in {folder}"), f"\nFiles in {folder}")
    for path in story.files:
        print(f"{path.name:<20} {FILES[path.name]}")
    print(f"\nDone in {time.perf_counter() - start:.0f} s.")
    return story
