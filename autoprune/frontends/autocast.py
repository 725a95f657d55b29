"""Regions of `with torch.autocast` in graphs: calls that begin and end them, among all others."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import fx
from torch.amp.autocast_mode import _enter_autocast, _exit_autocast


@contextmanager
def region(graph: fx.Graph, settings: tuple[Any, ...]) -> Iterator[None]:
    """Where nodes are inserted into a graph, surround them by the calls.

    Args:
        graph: the graph.
        settings: device type, type of numbers, whether autocast is on, whether casts are kept.
    """
    mode = graph.call_function(_enter_autocast, settings)
    yield
    graph.call_function(_exit_autocast, (mode,))


@contextmanager
def left_as_found(graph: fx.Graph) -> Iterator[None]:
    """Leave autocast as it is now, even if what runs a graph stops amid a region."""
    devices = {n.args[0] for n in graph.nodes if n.target is _enter_autocast}
    if not devices:
        yield
        return
    states = [(d, torch.is_autocast_enabled(d), torch.get_autocast_dtype(d)) for d in devices]
    cached = torch.is_autocast_cache_enabled()
    level = torch.autocast_increment_nesting()
    try:
        yield
    finally:
        while (now := torch.autocast_decrement_nesting()) >= level:
            pass
        if now == 0:
            torch.clear_autocast_cache()
        for device, enabled, dtype in states:
            torch.set_autocast_enabled(device, enabled)
            torch.set_autocast_dtype(device, dtype)
        torch.set_autocast_cache_enabled(cached)


class Interpreter(fx.Interpreter):
    """Runs a graph call by call."""

    def run(self, *args: Any, **kwargs: Any) -> Any:
        with left_as_found(self.module.graph):
            return super().run(*args, **kwargs)
