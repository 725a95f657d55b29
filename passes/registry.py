"""What is known by name: criteria, distributions, budgets."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TypeVar

from autoprune.errors import AutopruneError
from autoprune.passes.patterns import nearest

Item = TypeVar("Item")


class Registry(Mapping[str, Item]):
    """Things by name, in the order they were added.

    Args:
        kind: what they are called in messages: `criterion`.
        error: raised for names that are taken, and for those that nothing has.
        otherwise: what may be given in place of a name, for messages.
    """

    def __init__(
        self, kind: str, error: type[AutopruneError] = AutopruneError, otherwise: str = ""
    ) -> None:
        self._kind, self._error, self._otherwise = kind, error, otherwise
        self._items: dict[str, Item] = {}

    def __getitem__(self, name: str) -> Item:
        return self._items[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._items)

    def __len__(self) -> int:
        return len(self._items)

    def add(self, name: str, item: Item) -> None:
        """Make a thing known by name; an error of the registry's kind if the name is taken."""
        if name in self._items:
            raise self._error(
                f"there is a {self._kind} {name!r} already",
                hint=f"choose another name; taken are {', '.join(self)}",
            )
        self._items[name] = item

    def forget(self, name: str) -> None:
        """Undo `add`; errors as `find`."""
        self.find(name)
        del self._items[name]

    def resolve(self, given: str | Item) -> Item:
        """What has a name, or what is given in place of one; errors as `find`."""
        return self.find(given) if isinstance(given, str) else given

    def find(self, name: object) -> Item:
        """What has a name; else an error of the registry's kind, naming what there is."""
        if isinstance(name, str) and name in self._items:
            return self._items[name]
        raise self._error(
            f"there is no {self._kind} {name!r}",
            hint=f"{nearest(str(name).lower(), self)}use one of {', '.join(self)}"
            + (f", or {self._otherwise}" if self._otherwise else ""),
        )
