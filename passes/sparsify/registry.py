"""Sparse formats by name: `block 32x1`, `2:4`, `1:4 shared 8`, `fan-in 64`, `csr`, `bitmask`.

A format prints as its name, so that `parse_format(str(format)) == format`.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from autoprune.errors import FormatError
from autoprune.ir.discovery import import_files
from autoprune.passes.registry import Registry
from autoprune.passes.sparsify.layout import Format


@dataclass(frozen=True)
class Family:
    """Formats that differ in whole numbers only.

    Attributes:
        syntax: how names are written, for messages: `block ROWSxCOLS`.
        pattern: regular expression of the names; its groups are the numbers.
        build: makes the format of the numbers; those that a name leaves out are not passed.
    """

    syntax: str
    pattern: str
    build: Callable[..., Format]


FAMILIES: Registry[Family] = Registry("family of formats", FormatError)


def parse_format(text: str) -> Format:
    """The format of a name.

    Raises:
        FormatError: if no family has such a name, or its numbers make no format.
    """
    import_files("autoprune.passes.sparsify.formats")
    for family in FAMILIES.values():
        match = re.fullmatch(family.pattern, text.strip())
        if match is not None:
            return family.build(*(int(number) for number in match.groups() if number is not None))
    known = ", ".join(family.syntax for family in FAMILIES.values())
    raise FormatError(f"there is no sparse format {text!r}", hint=f"known formats: {known}")
