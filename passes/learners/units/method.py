"""What a method does around each step of the base optimizer."""

from __future__ import annotations

from autoprune.passes.learners.units.state import Course


class Method:
    """A way to find the units that are not needed and to bring them to zero.

    Methods are frozen dataclasses of their settings; what changes is in the `Course`. All functions
    are called without gradient tracking, in this order. This one does nothing.
    """

    def before(self, course: Course) -> None:
        """Before the step; gradients may be missing if the base optimizer computes them itself."""

    def gradients(self, course: Course) -> None:
        """The gradients are there and may be changed; weights are as before the step."""

    def pauses(self, course: Course) -> bool:
        """Whether the base optimizer leaves out this step."""
        return False

    def after(self, course: Course) -> None:
        """The base optimizer has done its step. Afterwards chosen units shrink."""
