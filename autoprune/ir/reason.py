"""Why an axis keeps its size, or why removing its units is not zero-invariant."""

from __future__ import annotations

from dataclasses import dataclass

from autoprune.ir.graph import Node


@dataclass(frozen=True, slots=True)
class Reason:
    """A reason, with what it is about.

    Attributes:
        text: in words, without the call; empty where there is nothing to give a reason for.
        node: the call that gives the reason, or None.
        remedy: what a user could do about it, in words that follow "what to do", or empty.
    """

    text: str = ""
    node: Node | None = None
    remedy: str = ""

    def __str__(self) -> str:
        return self.text if self.node is None else f"{self.text} ({self.node.label})"

    @property
    def source(self) -> str:
        """Line of the user's code, or empty."""
        return self.node.source if self.node else ""


NO_REASON = Reason()
