"""Every error the runtime raises on purpose.

They mirror those of `autoprune.errors`, which is not on the device. `except AutopruneRuntimeError`
catches them all.
"""


class AutopruneRuntimeError(Exception):
    """Base of every error raised by the runtime.

    Args:
        what: What went wrong, in one sentence.
        where: The file, its member or the input at fault.
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
        return _shown("\n".join(lines))


def _shown(text: str) -> str:
    """A text without what a terminal would obey: names in files may hold anything."""
    return "".join(c if c.isprintable() or c == "\n" else ascii(c)[1:-1] for c in text)


class ArtifactError(AutopruneRuntimeError):
    """A file is no artifact, is damaged, was tampered with, or contradicts itself."""


class TargetError(AutopruneRuntimeError):
    """This machine, or the ONNX Runtime on it, cannot run what the artifact holds."""


class InputError(AutopruneRuntimeError):
    """An input is missing, unknown, or has the wrong dtype or shape."""


class NotEqualError(AutopruneRuntimeError):
    """Outputs differ from those stored in the artifact by more than its tolerance."""


class DenseNotice(UserWarning):
    """The standard model runs in place of the artifact's native code."""
