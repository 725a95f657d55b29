"""Figures of the training benchmark."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.training.runs import LEARNERS, PEERS, REGULARIZERS

Curve = Sequence[tuple[float, float]]

STYLES: dict[str, dict[str, Any]] = {
    "dense": {"color": "black", "linestyle": "--"},
    **{name: {"color": f"C{place}"} for place, name in enumerate(LEARNERS)},
    **{
        name: {"color": f"C{place + len(LEARNERS)}", "linestyle": "-."}
        for place, name in enumerate(REGULARIZERS)
    },
    **{
        name: {"color": shade, "linestyle": ":"}
        for name, shade in zip(PEERS, ("0.2", "0.7", "0.45"), strict=True)
    },
}
"""Learners are drawn through, peers are grey and dotted."""


def plot_budgets(path: Path, tasks: Mapping[tuple[str, str], Mapping[str, Curve]]) -> None:
    """Scores against the share of FLOPs, a panel for each task.

    Args:
        path: of the image.
        tasks: by title and metric, then by method, pairs of percent kept and score.
    """
    pyplot = _pyplot()
    figure, panels = pyplot.subplots(
        1, len(tasks), figsize=(1 + 4 * len(tasks), 4.5), layout="constrained", squeeze=False
    )
    drawn = {}
    for axes, ((title, metric), methods) in zip(panels[0], tasks.items(), strict=True):
        for name, points in methods.items():
            if name == "dense":
                line = axes.axhline(points[0][1], label=name, linewidth=1, **STYLES[name])
            else:
                (line,) = axes.plot(*zip(*sorted(points), strict=True), marker="o", markersize=4,
                                    label=name, **STYLES[name])  # fmt: skip
            drawn.setdefault(name, line)
        axes.set(title=title, xlabel="FLOPs kept (%)", ylabel=_label(metric))
        kept = [at for name, points in methods.items() if name != "dense" for at, _ in points]
        axes.set_xlim(0, 5 + max(kept, default=100))
        axes.grid(alpha=0.3)
    ordered = [name for name in STYLES if name in drawn]
    figure.legend(
        [drawn[name] for name in ordered], ordered, loc="outside lower center",
        ncols=min(6, 3 * len(tasks)), frameon=False,
    )  # fmt: skip
    _save(pyplot, figure, path)


def plot_curves(path: Path, curves: Mapping[str, Curve]) -> None:
    """Accuracy while networks are trained.

    Args:
        path: of the image.
        curves: by method, pairs of epochs done and accuracy.
    """
    pyplot = _pyplot()
    figure, axes = pyplot.subplots(figsize=(7, 4), layout="constrained")
    for name in STYLES:
        if name in curves:
            axes.plot(*zip(*curves[name], strict=True), label=name, **STYLES[name])
    best = max(score for curve in curves.values() for _, score in curve)
    axes.set(xlabel="epochs", ylabel=_label("accuracy"), ylim=(best - 12, best + 0.5))
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    _save(pyplot, figure, path)


def _label(metric: str) -> str:
    return "accuracy (%)" if metric == "accuracy" else metric


def _pyplot() -> Any:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    return pyplot


def _save(pyplot: Any, figure: Any, path: Path) -> None:
    figure.savefig(path, dpi=150)
    pyplot.close(figure)
