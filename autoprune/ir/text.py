"""The text form of graphs, axis types and groups: what they print is read here.

    graph(%x: float32[2,8]) {
      %a.weight: float32[16,8] = parameter
      %b.weight: float32[4,16] = parameter
      %a: float32[2,16] = aten.linear.default(input=%x, weight=%a.weight)
      %b: float32[2,4] = aten.linear.default(input=%a, weight=%b.weight) in b at "net.py:7: b(x)"
      return %b
    }

The graph's inputs, its parameters, its calls: each says what it defines, with dtype and sizes.

* A name is quoted unless it consists of letters, digits and `_ . $ / -`.
* In place of sizes there may be axis types: `float32[2a,12bx64c]`, see `parse_axis`.
* `%size: int[](8)` is 8 on the example inputs, or everywhere in a buffer.
* Parameters are of a kind, with their other names if they are tied: `parameter(head.weight)`.
* Arguments are values, numbers, `True`, `False`, `None`, quoted strings, and lists of arguments.
* A call that defines nothing has `_` in front. What may stand behind a call: `as` its name, if it
  is not that of the first value; `in` its module (`in [a, b]` where these do not lie in each
  other by name); `at` its source.
* `mutated` and `loose` list the values of which that is so. `#` begins a comment.

Groups are lines, the slices that go together named by parameter and dimension. A group is called
after the first of them, where `/1` says that it is the second leaf of this dimension:

    16c masked: a.weight:0, b.weight:1; because "activations that are not zero are read" (b)
    8 pinned: a.weight:1; because "graph input `x`"
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import TypeVar, get_args

from autoprune.errors import GraphError
from autoprune.ir.axes import Axis, Leaf, concat, prod, singles, uid_of, uids_of
from autoprune.ir.graph import (
    PLAIN_NAME,
    Argument,
    Graph,
    Kind,
    Node,
    Parameter,
    Value,
    ancestry,
    verify,
)
from autoprune.ir.group import Group, Guarantee, Occurrence, Pinned
from autoprune.ir.reason import NO_REASON, Reason

T = TypeVar("T")

_SPACE = re.compile(r"(\s|#.*)*")
_STRING = re.compile(r'"(?:[^"\\\n]|\\.)*"')
_DIGITS = re.compile(r"\d+")
_WORD = re.compile(r"[a-z-]+")
_LITERAL = re.compile(r"-?[\w.]+([+-]\d+)?")
_TIMES = re.compile(r"x(?=[\d(])")
_END = re.compile(r"\Z")
_FACTOR = re.compile(r"(\d+)(\*1|[a-z]+?(?=x[\d(]|[^a-z]|$))?")
_LITERALS: dict[str, Argument] = {"None": None, "True": True, "False": False}
_UNNAMED = -1
"""A leaf of which only the size is given."""
_KINDS: tuple[Kind, ...] = get_args(Kind)
_GUARANTEES = {str(guarantee): guarantee for guarantee in Guarantee}

Shape = tuple[Axis, ...]


def parse_graph(text: str) -> Graph:
    """The graph of a text, whether it has sizes or axis types.

    Raises:
        GraphError: naming the line at fault.
    """
    reader = _Reader(text)
    graph = reader.whole(reader.graph)
    verify(graph)
    return graph


def parse_types(text: str) -> dict[str, Shape]:
    """By value name, the axis types in the text of a graph.

    Raises:
        GraphError: naming the line at fault, or the value that has sizes.
    """
    reader = _Reader(text)
    reader.whole(reader.graph)
    for name, shape in reader.types.items():
        if _UNNAMED in uids_of(shape):
            raise GraphError("the text has sizes, no axis types", where=f"value {name}")
    return reader.types


def parse_axis(text: str) -> Axis:
    """The axis type of a text: leaves with their letters, products, sums, single positions.

    >>> parse_axis("12ax64b") == prod(Leaf(0, 12), Leaf(1, 64))
    True
    >>> parse_axis("2a+3*1") == concat(Leaf(0, 2), singles(3))
    True

    Raises:
        GraphError: if it is none.
    """
    reader = _Reader(text)
    axis = reader.whole(reader.axis)
    if _UNNAMED in axis.uids:
        raise reader.error("expected letters behind sizes")
    return axis


def parse_groups(text: str, graph: Graph) -> tuple[tuple[Group, ...], tuple[Pinned, ...]]:
    """The groups and the pinned axes of a text, one to a line; reasons name calls of the graph.

    Raises:
        GraphError: naming the line at fault.
    """
    reader = _Reader(text, {node.name: node for node in graph.nodes})
    found: list[Group | Pinned] = []
    while not reader.match(_END):
        found.append(reader.group())
    groups = tuple(g for g in found if isinstance(g, Group))
    return groups, tuple(p for p in found if isinstance(p, Pinned))


class _Reader:
    """A text and how far it has been read."""

    def __init__(self, text: str, nodes: dict[str, Node] | None = None) -> None:
        self.text = text
        self.at = 0
        self.nodes = {} if nodes is None else nodes
        self.values: dict[str, Value] = {}
        self.types: dict[str, Shape] = {}

    # Characters.

    def here(self) -> int:
        """Where the next word begins."""
        space = _SPACE.match(self.text, self.at)
        return space.end() if space else self.at

    def match(self, pattern: re.Pattern[str]) -> re.Match[str] | None:
        """What `pattern` matches here, behind space; None if it matches nothing."""
        found = pattern.match(self.text, self.here())
        if found is not None:
            self.at = found.end()
        return found

    def take(self, pattern: re.Pattern[str], what: str) -> re.Match[str]:
        found = self.match(pattern)
        if found is None:
            raise self.error(f"expected {what}")
        return found

    def skip(self, sign: str) -> bool:
        """Go on behind a sign or word, if it comes next."""
        end = r"(?![\w.$/-])" if sign.isalpha() else ""
        return self.match(re.compile(re.escape(sign) + end)) is not None

    def expect(self, sign: str) -> None:
        if not self.skip(sign):
            raise self.error(f"expected `{sign}`")

    def whole(self, read: Callable[[], T]) -> T:
        """What `read` reads, behind which there is nothing more."""
        found = read()
        if not self.match(_END):
            raise self.error("expected nothing more")
        return found

    def error(self, what: str) -> GraphError:
        line = self.text.count("\n", 0, self.here()) + 1
        rest = self.text[self.here() :].partition("\n")[0] or "the end"
        return GraphError(f"the text cannot be read: {what}", where=f"line {line}, at `{rest}`")

    def many(self, read: Callable[[], T]) -> tuple[T, ...]:
        """What `read` reads, at least once, with commas between."""
        found = [read()]
        while self.skip(","):
            found.append(read())
        return tuple(found)

    def listed(self, read: Callable[[], T], end: str) -> tuple[T, ...]:
        """What `read` reads before `end`, with commas between."""
        if self.skip(end):
            return ()
        found = self.many(read)
        self.expect(end)
        return found

    # Words.

    def string(self) -> str:
        return str(json.loads(self.take(_STRING, "a string in double quotes")[0]))

    def name(self) -> str:
        plain = self.match(PLAIN_NAME)
        return plain[0] if plain else self.string()

    def number(self) -> int:
        return int(self.take(_DIGITS, "a number")[0])

    def argument(self) -> Argument:
        if self.skip("["):
            return self.listed(self.argument, "]")
        if self.skip("%"):
            return self.known()
        literal = self.match(_LITERAL)
        if literal is None:
            return self.string()
        word = literal[0]
        if word in _LITERALS:
            return _LITERALS[word]
        for number in (int, float):
            try:
                return number(word)
            except ValueError:
                pass
        raise self.error(f"expected an argument, not {word}")

    # Values and axis types.

    def known(self) -> Value:
        """A value that was defined, behind the `%`."""
        name = self.name()
        if name not in self.values:
            raise self.error(f"expected a value that is defined, not {name}")
        return self.values[name]

    def value(self) -> Value:
        self.expect("%")
        return self.known()

    def definition(self) -> Value:
        self.expect("%")
        name = self.name()
        self.expect(":")
        dtype = self.name()
        self.expect("[")
        shape = self.listed(self.axis, "]")
        hint = None
        if self.skip("("):
            hint = self.argument()
            self.expect(")")
        if hint is not None and not isinstance(hint, int):
            raise self.error("expected an integer in the parentheses")
        self.types[name] = shape
        self.values[name] = Value(name, tuple(axis.size for axis in shape), dtype, hint)
        return self.values[name]

    def axis(self) -> Axis:
        terms = [self.product()]
        while self.skip("+"):
            terms.append(self.product())
        return concat(*terms)

    def product(self) -> Axis:
        factors = [self.factor()]
        while self.match(_TIMES):
            factors.append(self.factor())
        return prod(*factors)

    def factor(self) -> Axis:
        if self.skip("("):
            axis = self.axis()
            self.expect(")")
            return axis
        digits, letters = self.take(_FACTOR, "a size").groups()
        if letters == "*1" or int(digits) < 2:
            return singles(int(digits))
        return Leaf(uid_of(letters) if letters else _UNNAMED, int(digits))

    # Graphs.

    def graph(self) -> Graph:
        self.expect("graph")
        self.expect("(")
        inputs = self.listed(self.definition, ")")
        self.expect("{")
        parameters: list[Parameter] = []
        nodes: list[Node] = []
        noted: dict[str, tuple[Value, ...]] = {}
        while not self.skip("return"):
            word = next((w for w in ("mutated", "loose") if self.skip(w)), None)
            if word:
                noted[word] = self.many(self.value)
                continue
            defined = () if self.skip("_") else self.many(self.definition)
            self.expect("=")
            kind = next((k for k in _KINDS if self.skip(k)), None)
            if kind is None:
                nodes.append(self.call(defined))
            else:
                names = self.listed(self.name, ")") if self.skip("(") else ()
                parameters += [Parameter(v, (v.name, *names), kind) for v in defined]
        outputs = () if self.skip("}") else self.listed(self.value, "}")
        return Graph(inputs, tuple(parameters), tuple(nodes), outputs, **noted)

    def call(self, defined: tuple[Value, ...]) -> Node:
        op = self.name()
        self.expect("(")
        arguments = dict(self.listed(self.keyword, ")"))
        if not defined:
            self.expect("as")
            name = self.name()
        else:
            name = self.name() if self.skip("as") else defined[0].name
        module = self.module() if self.skip("in") else ()
        source = self.string() if self.skip("at") else ""
        return Node(name, op, arguments, defined, module, source)

    def module(self) -> tuple[str, ...]:
        return self.listed(self.name, "]") if self.skip("[") else ancestry(self.name())

    def keyword(self) -> tuple[str, Argument]:
        name = self.name()
        self.expect("=")
        return name, self.argument()

    # Groups.

    def group(self) -> Group | Pinned:
        axis = self.factor()
        word = self.take(_WORD, "a guarantee, or `pinned`")[0]
        self.expect(":")
        name, first = self.named_place()
        places = (first, *(self.many(self.place) if self.skip(",") else ()))
        reason = self.reason() if self.skip("; because") else NO_REASON
        if word == "pinned":
            return Pinned(name, axis.size, places, reason)
        if word not in _GUARANTEES or not isinstance(axis, Leaf) or axis.uid == _UNNAMED:
            raise self.error(f"expected a leaf and its guarantee, not {axis} {word}")
        spared = self.many(self.name) if self.skip("; spares") else ()
        folds = self.many(self.name) if self.skip("; folds") else ()
        return Group(name, axis, places, _GUARANTEES[word], reason, spared, folds)

    def place(self) -> Occurrence:
        parameter = self.name()
        self.expect(":")
        return Occurrence(parameter, self.number())

    def named_place(self) -> tuple[str, Occurrence]:
        """The first place of a group, and the name that the group has after it."""
        place = self.place()
        return f"{place}/{self.number()}" if self.skip("/") else str(place), place

    def reason(self) -> Reason:
        text = self.string()
        if not self.skip("("):
            return Reason(text)
        node = self.name()
        self.expect(")")
        if node not in self.nodes:
            raise self.error(f"expected the name of a call, not {node}")
        return Reason(text, self.nodes[node])
