"""What is being done, shown while it takes long.

Functions say which step begins (`say`, `each`). The outermost call that a user makes decides where
that goes: by default to a spinner that appears after two seconds, if somebody can see it.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from importlib.util import find_spec
from typing import TYPE_CHECKING, Literal, TypeAlias, TypeVar

if TYPE_CHECKING:
    from rich.console import Console

PATIENCE = 2.0
"""Seconds after which a spinner appears."""

Progress: TypeAlias = Callable[[str], object] | Literal["auto"] | None
"""Where steps are told: to a function, nowhere, or to a terminal or notebook if there is one."""

Item = TypeVar("Item")

_Teller: TypeAlias = Callable[[str, int, int], object]
"""Takes the step, which of its parts begins, and how many there are; zeros if it has none."""

_teller: ContextVar[_Teller | None] = ContextVar("teller", default=None)


@contextmanager
def progress(how: Progress = "auto") -> Iterator[None]:
    """Show the steps of what is called within, or hide them.

    Args:
        how: a function that is called with each step, such as `print`; None for silence; `"auto"`
            for a spinner on stderr, from the second second on, if that is a terminal, or in a
            notebook that has ipywidgets. Within another `progress`, `"auto"` means what that says.

    Example:
        >>> with progress(None):
        ...     result.save("small.onnx")
    """
    if how == "auto" and _teller.get() is not None:
        yield
        return
    console = _watched() if how == "auto" else None
    if console is not None:
        with _spinner(console) as tell, _telling(tell):
            yield
    elif callable(how):
        with _telling(_in_words(how)):
            yield
    elif how is None:
        with _telling(lambda step, part, parts: None):
            yield
    else:
        yield


def say(step: str) -> None:
    """Tell that a step begins."""
    if (tell := _teller.get()) is not None:
        tell(step, 0, 0)


def each(items: Sequence[Item], step: str) -> Iterator[Item]:
    """The items in turn, telling the step and which of how many it is at."""
    for part, item in enumerate(items, 1):
        if (tell := _teller.get()) is not None:
            tell(step, part, len(items))
        yield item


@contextmanager
def _telling(tell: _Teller) -> Iterator[None]:
    token = _teller.set(tell)
    try:
        yield
    finally:
        _teller.reset(token)


def _in_words(how: Callable[[str], object]) -> _Teller:
    return lambda step, part, parts: how(f"{step} ({part}/{parts})" if parts else step)


def _watched() -> Console | None:
    """The console on which somebody would see a spinner, if any."""
    terminal = sys.stderr is not None and sys.stderr.isatty()
    notebook = "ipykernel" in sys.modules and find_spec("ipywidgets") is not None
    # Of processes that train together the first one speaks.
    if not (terminal or notebook) or os.environ.get("LOCAL_RANK", "0") != "0":
        return None
    from rich.console import Console

    console = Console(stderr=True)
    return console if console.is_jupyter or (terminal and console.is_interactive) else None


@contextmanager
def _spinner(console: Console) -> Iterator[_Teller]:
    """A line with the step, its part and how long it has taken, shown if it all takes long."""
    from rich import progress as bars

    bar = bars.Progress(
        bars.SpinnerColumn(), bars.TextColumn("{task.description}", markup=False),
        bars.TextColumn("{task.fields[part]}"), bars.TimeElapsedColumn(),
        console=console, transient=True, redirect_stdout=sys.stdout.isatty(),
    )  # fmt: skip
    task = bar.add_task("starting", total=None, part="")
    lock, over = threading.Lock(), False

    def tell(step: str, part: int, parts: int) -> None:
        if part <= 1:
            bar.reset(task, total=None, description=step, part="")
        if parts:
            bar.update(task, description=step, part=f"{part}/{parts}")

    def appear() -> None:
        with lock:
            if not over:
                bar.start()

    timer = threading.Timer(PATIENCE, appear)
    timer.daemon = True
    timer.start()
    try:
        yield tell
    finally:
        timer.cancel()
        with lock:
            over = True
            if bar.live.is_started:
                bar.stop()
