"""Where in the user's code a call comes from, as exporters write it down."""

from __future__ import annotations

from autoprune.errors import printable


def user_line(trace: str) -> str:
    """The innermost frame of a stack trace that is not torch's own, as `file:line: text`."""
    for frame in reversed(trace.split('File "')[1:]):
        location, _, text = frame.partition("\n")
        path, _, rest = location.partition('", line ')
        if "/torch/" not in path and not path.startswith("<"):
            code = text.strip().splitlines()
            return printable(f"{path}:{rest.split(',')[0]}: {code[0]}" if code else path)
    return ""


def nested_paths(names: list[str]) -> tuple[str, ...]:
    """Paths of nested modules from the names of each within the one before.

    >>> nested_paths(["layer1", "layer1.0", "conv"])
    ('layer1', 'layer1.0', 'layer1.0.conv')
    """
    paths: list[str] = []
    for name in map(printable, names):
        outer = paths[-1] if paths else ""
        paths.append(f"{outer}.{name}" if outer and not name.startswith(f"{outer}.") else name)
    return tuple(paths)
