"""Expressions of sizes, which torch evaluates as Python when it reads a program."""

from __future__ import annotations

import ast
import re

_FUNCTION_NAMES = """
    Symbol Integer Float Rational Add Mul Pow Mod Max Min Abs floor ceiling
    Equality Unequality StrictLessThan LessThan StrictGreaterThan GreaterThan Eq Ne Lt Le Gt Ge
    And Or Not FloorDiv ModularIndexing Where PythonMod CleanDiv CeilToInt FloorToInt CeilDiv
    LShift RShift PowByNatural FloatPow FloatTrueDiv IntTrueDiv IsNonOverlappingAndDenseIndicator
    TruncToFloat TruncToInt RoundToInt RoundDecimal ToFloat Identity
"""
_FUNCTIONS = frozenset(_FUNCTION_NAMES.split())
_POWERS = frozenset({"Pow", "PowByNatural", "FloatPow", "LShift"})
_CONSTANTS = frozenset({"true", "false", "oo", "True", "False"})
_OPERATORS = (ast.Add, ast.Sub, ast.Mult, ast.Div, ast.FloorDiv, ast.Mod)
_SYMBOL = re.compile(r"[A-Za-z_]{1,8}\d{1,6}")
_NUMBER = re.compile(r"-?\d{0,40}\.?\d{0,40}(e[+-]?\d{1,3})?")
_ASSUMPTION = re.compile(r"[a-z_]{1,20}")

MAX_LENGTH = 100_000
"""Characters of an expression."""

MAX_BITS = 4096
"""Binary digits that the numbers in an expression may grow to."""

MAX_EXPONENT = 64


def is_symbol(text: str) -> bool:
    """Whether a text is the name of a size, such as `s77`."""
    return _SYMBOL.fullmatch(text) is not None


def is_size(text: str) -> bool:
    """Whether an expression is nothing but arithmetic, and its numbers stay small."""
    if len(text) > MAX_LENGTH:
        return False
    try:
        return _bits(ast.parse(text, mode="eval").body) <= MAX_BITS
    except (_NoSizeError, SyntaxError, ValueError, RecursionError, MemoryError):
        return False


class _NoSizeError(Exception):
    pass


def _bits(node: ast.expr) -> int:
    """Binary digits of the largest number that evaluating an expression can give."""
    match node:
        case ast.Constant(value=bool() | int() | float() as value):
            return int(value).bit_length() if abs(value) < 2**63 else MAX_BITS + 1
        case ast.Name(id=name) if name in _CONSTANTS or is_symbol(name):
            return 64
        case ast.UnaryOp(op=ast.USub() | ast.UAdd() | ast.Not(), operand=operand):
            return _bits(operand)
        case ast.BinOp(left=left, op=ast.Pow(), right=right):
            return _bits(left) * _exponent(right)
        case ast.BinOp(left=left, op=op, right=right) if isinstance(op, _OPERATORS):
            return _bits(left) + _bits(right) + 1
        case ast.Compare(left=left, comparators=[right]):
            return max(_bits(left), _bits(right))
        case ast.Call(func=ast.Name(id="Symbol"), args=[ast.Constant(value=str() as name)]):
            if is_symbol(name) and _assumes(node):
                return 64
        case ast.Call(func=ast.Name(id="Float"), args=[ast.Constant(value=str() as number)]):
            if _NUMBER.fullmatch(number) and _assumes(node):
                return 64
        case ast.Call(func=ast.Name(id=name), args=[left, right]) if name in _POWERS:
            if _assumes(node):
                return _bits(left) * _exponent(right)
        case ast.Call(func=ast.Name(id=name), args=args) if name in _FUNCTIONS - _POWERS:
            if _assumes(node):
                return sum(map(_bits, args)) + len(args) if name == "Mul" else _most(args)
    raise _NoSizeError


def _most(args: list[ast.expr]) -> int:
    """Sums grow by a digit with each term, and a ratio has the digits of both its parts."""
    bits = sorted(map(_bits, args))
    return sum(bits[-2:]) + len(args)


def _exponent(node: ast.expr) -> int:
    """The size of an exponent, which has to be a small number that is written out."""
    match node:
        case ast.Constant(value=int() | float() as value) if abs(value) <= MAX_EXPONENT:
            return max(1, round(abs(value)))
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return _exponent(operand)
        case ast.Call(func=ast.Name(id="Integer"), args=[operand], keywords=[]):
            return _exponent(operand)
        case ast.Call(func=ast.Name(id="Rational"), args=[operand, _], keywords=[]):
            _bits(node)
            return _exponent(operand)
    raise _NoSizeError


def _assumes(call: ast.Call) -> bool:
    """Whether the keywords of a call are such as `positive=True`."""
    for keyword in call.keywords:
        value = keyword.value
        if not isinstance(value, ast.Constant) or not _ASSUMPTION.fullmatch(keyword.arg or ""):
            return False
        if not isinstance(value.value, bool | int) or abs(value.value) > 1000:
            return False
    return True
