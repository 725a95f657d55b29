"""What happened during training: sparsity and the user's own measurements over the steps."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from autoprune.errors import AutopruneError
from autoprune.ir.files import replacing
from autoprune.passes.learners.schedule import Schedule

RECORDS = 200
"""About as many records as a run leaves, besides those at the ends of periods."""


@dataclass(frozen=True)
class Record:
    """The state after some step.

    Attributes:
        step: steps done.
        steps: steps of the whole run.
        zero: share of the units (of groups that may shrink) that are zero.
        chosen: share of the units that are zero or shrinking.
        flops: share of the model's FLOPs that the zero units leave.
        params: share of the model's parameters that the zero units leave.
        metrics: what the user reported at this step, such as loss and accuracy.
    """

    step: int
    steps: int
    zero: float
    chosen: float
    flops: float
    params: float
    metrics: dict[str, float] = field(default_factory=dict)


class Monitor:
    """Keeps records, and hands them on.

    Args:
        callback: called with every record.
        log_dir: folder for TensorBoard, or None.

    Attributes:
        records: in the order of steps.

    Raises:
        AutopruneError: if `log_dir` is given and TensorBoard is not installed.
    """

    def __init__(
        self, callback: Callable[[Record], object] | None = None, log_dir: str | Path | None = None
    ) -> None:
        self.records: list[Record] = []
        self._callback = callback
        self._writer = None if log_dir is None else _tensorboard(Path(log_dir))

    def wants(self, schedule: Schedule, step: int) -> bool:
        """Whether a record is due after so many steps: now and then, and when a period ends."""
        return (
            step % max(1, schedule.steps // RECORDS) == 0
            or step == 1
            or schedule.ends_period(step - 1)
        )

    def add(self, record: Record) -> None:
        self.records.append(record)
        if self._callback is not None:
            self._callback(record)
        if self._writer is not None:
            shares = {"zero": record.zero, "flops": record.flops, "params": record.params}
            for name, value in {**shares, **record.metrics}.items():
                self._writer.add_scalar(f"autoprune/{name}", value, record.step)

    def close(self) -> None:
        """Write out what TensorBoard has not written yet."""
        if self._writer is not None:
            self._writer.flush()


def _tensorboard(folder: Path) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise AutopruneError(
            "log_dir needs TensorBoard, which is not installed",
            hint="pip install tensorboard, or leave log_dir out and use pruner.plot",
        ) from error
    return SummaryWriter(str(folder))


def plot(records: Sequence[Record], path: str | Path) -> None:
    """Draw the user's measurements, and what is left of the network, over the steps.

    Args:
        records: of one run.
        path: an image file, such as .png or .svg.

    Raises:
        AutopruneError: if there is nothing to draw, the file cannot be written, or matplotlib is
            not installed.
    """
    if not records:
        raise AutopruneError("there is nothing to draw yet", hint="train for some steps first")
    try:
        import matplotlib as mpl
    except ImportError as error:
        raise AutopruneError(
            "plots need matplotlib, which is not installed", hint="pip install matplotlib"
        ) from error
    from matplotlib.figure import Figure

    names = list(dict.fromkeys(name for entry in records for name in entry.metrics))
    figure = Figure(figsize=(7, 2.4 * (1 + len(names)) + 0.8), layout="constrained")
    rows = figure.subplots(1 + len(names), sharex=True, squeeze=False)[:, 0]
    steps = [entry.step for entry in records]
    top = rows[0]
    top.plot(steps, [entry.flops for entry in records], label="FLOPs left")
    top.plot(steps, [entry.params for entry in records], label="parameters left")
    top.plot(steps, [1 - entry.zero for entry in records], label="units left", linestyle="--")
    top.set(ylabel="share", ylim=(0, 1.03))
    top.legend(loc="best", frameon=False)
    for axes, name in zip(rows[1:], names, strict=True):
        points = [(e.step, e.metrics[name]) for e in records if name in e.metrics]
        marker = "." if len(points) < 60 else None
        axes.plot(*zip(*points, strict=True), marker=marker, color="tab:gray")
        axes.set(ylabel=name)
    rows[-1].set(xlabel="step")
    suffix = Path(path).suffix.lstrip(".")
    formats = figure.canvas.get_supported_filetypes()
    if suffix not in formats:
        raise AutopruneError(
            f"cannot draw into {suffix or 'a file without suffix'!r}",
            where=str(path),
            hint=f"use one of {', '.join(sorted(formats))}",
        )
    try:
        with mpl.rc_context({"savefig.dpi": 120}), replacing(path) as file:
            figure.savefig(file, format=suffix)
    except OSError as error:
        raise AutopruneError(
            f"the file cannot be written: {error.strerror or error}",
            where=str(path),
            hint="check that the folder exists and may be written to",
        ) from error
