"""Names and patterns by which users mean modules, parameters and groups."""

from __future__ import annotations

import difflib
import fnmatch
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Any

from autoprune.errors import AutopruneError

LISTED = 8
"""Names that an error lists at most."""


def as_patterns(given: Any, keyword: str) -> tuple[str, ...]:
    """One name or pattern, or several, as a tuple; AutopruneError for anything else."""
    patterns = (given,) if isinstance(given, str) or not isinstance(given, Iterable) else given
    patterns = tuple(patterns)
    for pattern in patterns:
        if not isinstance(pattern, str):
            raise AutopruneError(
                f"{keyword} takes names, not {type(pattern).__name__}",
                hint=f'such as {keyword}="layer1.*", as named_parameters() spells them',
            )
    return patterns


def check_patterns(
    patterns: Iterable[str], names: Sequence[str], keyword: str, groups: Collection[str] = ()
) -> None:
    """Refuse names of parameters, modules and groups that there are not.

    Raises:
        AutopruneError: naming the first of the patterns that matches nothing, and what is near it.
    """
    for pattern in patterns:
        if not any(matches(name, pattern) for name in names) and not any(
            fnmatch.fnmatchcase(group, pattern) for group in groups
        ):
            kinds = "module, parameter or group" if groups else "module or parameter"
            raise AutopruneError(
                f"{keyword}={pattern!r} matches no {kinds}",
                hint=_suggestion(pattern, names, groups),
            )


def _suggestion(pattern: str, names: Sequence[str], groups: Collection[str]) -> str:
    """What may have been meant, or what there is."""
    known = groups if ":" in pattern and groups else {p for n in names for p in prefixes(n)}
    hint = nearest(pattern.removesuffix(".*"), known)
    tops = dict.fromkeys(name.split(".")[0] for name in names)
    listed = tops if len(tops) > 1 else dict.fromkeys(names)
    return f"{hint}there are {some(listed)}"


def nearest(name: str, known: Iterable[str]) -> str:
    """A question for the names that look like one, or nothing."""
    close = difflib.get_close_matches(name, list(known), n=3)
    return f"did you mean {' or '.join(repr(n) for n in close)}? " if close else ""


def some(names: Collection[str]) -> str:
    """The first names of many."""
    shown = ", ".join(repr(n) for n in list(names)[:LISTED])
    return f"{shown} and {len(names) - LISTED} more" if len(names) > LISTED else shown


def prefixes(name: str) -> Iterator[str]:
    """A parameter and the modules around it, outermost first."""
    parts = name.split(".")
    return (".".join(parts[: i + 1]) for i in range(len(parts)))


def matches(name: str, pattern: str) -> bool:
    """Whether a parameter is, or lies in a module, called `pattern`."""
    return any(fnmatch.fnmatchcase(prefix, pattern) for prefix in prefixes(name))


def first_match(patterns: Iterable[str], names: Collection[str], group: str = "") -> str | None:
    """The first pattern that one of the names of a parameter matches, or the name of a group."""
    return next(
        (
            p
            for p in patterns
            if any(matches(name, p) for name in names) or (group and fnmatch.fnmatchcase(group, p))
        ),
        None,
    )
