"""Regions of `with torch.autocast` in graphs: calls that begin and end them, among all others."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
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


def calls_to_export(graph: fx.Graph) -> dict[Any, Any]:
    """What takes the place of the calls while a graph is exported again.

    Torch only notes them down then, and goes on without autocast.
    """
    return {_enter_autocast: _enter, _exit_autocast: _exit} if has_regions(graph) else {}


def _enter(*settings: Any) -> torch.autocast:
    mode = torch.autocast(*settings)
    mode.__enter__()
    return mode


def _exit(mode: torch.autocast) -> None:
    mode.__exit__(None, None, None)


def has_regions(graph: fx.Graph) -> bool:
    """Whether autocast is switched on or off anywhere."""
    return any(n.target is _enter_autocast for n in graph.nodes)


def is_on(graph: fx.Graph) -> bool:
    """Whether autocast is switched on anywhere."""
    return any(n.target is _enter_autocast and n.args[2] for n in graph.nodes)


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


@contextmanager
def switched_off(module: fx.GraphModule) -> Iterator[None]:
    """A graph without autocast for a while."""
    on = [n for n in module.graph.nodes if n.target is _enter_autocast and n.args[2]]
    try:
        _switch(module, on, enabled=False)
        yield
    finally:
        _switch(module, on, enabled=True)


def _switch(module: fx.GraphModule, regions: Sequence[fx.Node], *, enabled: bool) -> None:
    for node in regions:
        node.update_arg(2, enabled)
    if regions:
        module.recompile()


class Interpreter(fx.Interpreter):
    """Runs a graph call by call."""

    def run(self, *args: Any, **kwargs: Any) -> Any:
        assert isinstance(self.module, fx.GraphModule)
        with left_as_found(self.module.graph):
            return super().run(*args, **kwargs)
