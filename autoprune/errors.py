"""Every error autoprune raises on purpose, and what it warns of.

`except AutopruneError` catches them all. A message says what happened, where, and what to do:

    the budget cannot be met
      where: group `layer3.0.conv1`, 256 channels
      what to do: ask for flops=0.31 or more
"""


class AutopruneError(Exception):
    """Base of every error raised by autoprune.

    Args:
        what: What went wrong, in one sentence.
        where: The node, parameter, file or source line of the user's model at fault.
        hint: What the user can do about it.
    """

    def __init__(self, what: str, *, where: str | None = None, hint: str | None = None) -> None:
        super().__init__(what)
        self.what = what
        self.where = where
        self.hint = hint

    def __str__(self) -> str:
        lines = [self.what]
        if self.where is not None:
            lines.append(f"  where: {self.where}")
        if self.hint is not None:
            lines.append(f"  what to do: {self.hint}")
        return printable("\n".join(lines))


def printable(text: str) -> str:
    """A text without what a terminal would obey: names in files may hold anything."""
    return "".join(c if c.isprintable() or c == "\n" else ascii(c)[1:-1] for c in text)


class TraceError(AutopruneError):
    """A model could not be read: its export failed, or the file is not a model."""


class GraphError(AutopruneError):
    """A graph breaks an invariant, has non-finite weights, or an operator `strict` forbids."""


class PlanError(AutopruneError):
    """A plan is malformed, or was made for another graph."""


class BudgetError(AutopruneError):
    """A budget is out of range, or no choice of units meets it."""


class NotEqualError(AutopruneError):
    """A cut model's outputs differ from those of the model with the same units zeroed."""


class LearnerError(AutopruneError):
    """Training with a learner cannot begin, go on or finish as asked."""


class RuleError(AutopruneError):
    """A rule for an operator is malformed, taken, or refuted by its check."""


class FormatError(AutopruneError):
    """A sparse format is unknown, taken, refuted by its check, or does not fit the weights."""


class TargetError(AutopruneError):
    """A compilation target is unknown, or its tools are missing."""


class ArtifactError(AutopruneError):
    """A compiled artifact is truncated, tampered with, or made for another processor."""


class Notice(UserWarning):
    """Something that is no error, but that whoever runs autoprune should know."""


class BudgetWarning(Notice):
    """A budget was not met within its tolerance, but by the nearest that can be reached."""


def first_line(error: BaseException) -> str:
    """What an error says, in one line; its type if it says nothing."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]
