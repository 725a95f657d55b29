"""How an operator fares between two layers of a network that is pruned, and the page about it."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

RESULTS = {
    "pruned": "units around it were cut, and the outputs are those with the units zeroed",
    "kept whole": "its rule keeps the units around it",
    "no rule": "what it touches is kept whole",
    "refused": "an error of autoprune's own",
    "not applicable": "no input of it can come from a layer, or torch cannot run it",
    "failed": "a wrong number, or an error that is not autoprune's own",
}
"""What can become of an operator, and what each means."""

PAGE = Path(__file__).parents[2] / "docs" / "conformance.md"

HEADER = """# Conformance

The operators of a framework, with the inputs its own tests use, each between two layers of a small
network of which half of all units is pruned at random. Written by `make conformance`
(`python benchmarks/conformance.py`), which fails if an operator does.
"""


@dataclass(frozen=True)
class Outcome:
    """What became of one operator.

    Attributes:
        operator: its name.
        result: one of `RESULTS`.
        reason: why it is not pruned.
    """

    operator: str
    result: str
    reason: str = ""

    def __post_init__(self) -> None:
        if self.result not in RESULTS:
            raise ValueError(f"{self.result} is no result")


def section(introduction: str, outcomes: Sequence[Outcome]) -> str:
    """The totals, and every operator that is not pruned with the reason."""
    counts = Counter(outcome.result for outcome in outcomes)
    lines = [
        introduction.strip(),
        "",
        "| result | operators | |",
        "|---|---|---|",
        *(f"| {result} | {counts[result]} | {RESULTS[result]} |" for result in RESULTS),
        f"| all | {len(outcomes)} | |",
        "",
        "| operator | result | why |",
        "|---|---|---|",
        *(
            f"| {o.operator} | {o.result} | {_cell(o.reason)} |"
            for o in sorted(outcomes, key=lambda o: (list(RESULTS).index(o.result), o.operator))
            if o.result != "pruned"
        ),
    ]
    return "\n".join(lines) + "\n"


def write_section(page: Path, title: str, text: str) -> None:
    """Put a section under its title into a page, in place of an older one."""
    written = page.read_text() if page.exists() else HEADER
    _, *parts = re.split(r"^## (.+)\n", written, flags=re.MULTILINE)
    sections = dict(zip(parts[::2], parts[1::2], strict=True))
    sections[title] = text
    bodies = (f"## {name}\n\n{body.strip()}\n" for name, body in sections.items())
    page.write_text("\n".join([f"{HEADER.strip()}\n", *bodies]))


def _cell(text: str) -> str:
    text = " ".join(text.replace("|", "/").split())
    return text if len(text) <= 120 else text[:119] + "…"
