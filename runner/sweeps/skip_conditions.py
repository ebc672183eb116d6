"""The conditions of `skip_if` on a cell's config: `defense.name == 'none' and attack.steps in [7, 20]`.

Comparisons, `in`, `and`, `or`, `not`, literals and dotted keys of the config; no code is executed.
"""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from runner.core.config import Config
from runner.core.errors import ConfigError, unknown_key
from runner.core.hashing import plain

KEY = "hydra.sweeper.skip_if"
ALLOWED = "comparisons, in, and, or, not, numbers, texts in quotes, lists and keys of the config"

_COMPARISONS: dict[type[ast.cmpop], Callable[[Any, Any], bool]] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.In: lambda item, holder: item in holder,
    ast.NotIn: lambda item, holder: item not in holder,
}
_WORDS = {"true": True, "false": False, "null": None}
"""YAML's words for these values; keys of the config cannot have these names."""


@dataclass(frozen=True)
class Condition:
    """An expression that is true or false for a config."""

    text: str
    tree: ast.expr

    @classmethod
    def read(cls, text: object) -> Condition:
        """Parse a condition. Errors: `ConfigError` if it, or any part of it, is not such an expression."""
        try:
            tree = ast.parse(str(text).strip(), mode="eval").body
        except (SyntaxError, ValueError) as error:
            raise ConfigError(
                f"{KEY}: {text!r} is not an expression ({error.args[0]}); allowed are {ALLOWED}"
            ) from None
        condition = cls(str(text), tree)
        condition._refuse(tree)
        return condition

    def holds(self, config: Config) -> bool:
        """Whether it is true for this config. Errors: `ConfigError` for a missing key, or values that cannot be compared."""
        try:
            return bool(self._value(self.tree, config))
        except TypeError as error:
            raise ConfigError(f"{KEY}: {self.text!r} cannot be evaluated for a cell: {error}") from None

    def _refuse(self, node: ast.expr) -> None:
        match node:
            case ast.BoolOp(values=parts) | ast.List(elts=parts) | ast.Tuple(elts=parts):
                below = parts
            case ast.UnaryOp(op=ast.Not() | ast.USub(), operand=operand):
                below = [operand]
            case ast.Compare(left=left, ops=ops, comparators=others) if all(type(op) in _COMPARISONS for op in ops):
                below = [left, *others]
            case ast.Constant(value=None | bool() | int() | float() | str()):
                below = []
            case ast.Name() | ast.Attribute() if _key(node):
                below = []
            case _:
                raise ConfigError(f"{KEY}: {self.text!r} has {ast.unparse(node)!r}; allowed are {ALLOWED}")
        for part in below:
            self._refuse(part)

    def _value(self, node: ast.expr, config: Config) -> Any:
        match node:
            case ast.Constant(value=value):
                return plain(value)
            case ast.List(elts=items) | ast.Tuple(elts=items):
                return [self._value(item, config) for item in items]
            case ast.UnaryOp(op=op, operand=operand):
                value = self._value(operand, config)
                return not value if isinstance(op, ast.Not) else -value
            case ast.BoolOp(op=op, values=parts):
                quantifier = all if isinstance(op, ast.And) else any
                return quantifier(self._value(part, config) for part in parts)
            case ast.Compare(left=left, ops=ops, comparators=others):
                sides = pairwise([self._value(side, config) for side in (left, *others)])
                return all(_COMPARISONS[type(op)](*pair) for op, pair in zip(ops, sides, strict=True))
        return self._looked_up(_key(node), config)

    def _looked_up(self, key: list[str], config: Config) -> Any:
        if len(key) == 1 and key[0] in _WORDS:
            return _WORDS[key[0]]
        value: Any = config
        for depth, name in enumerate(key):
            if not isinstance(value, dict) or name not in value:
                allowed = map(str, value) if isinstance(value, dict) else ()
                raise ConfigError(f"{KEY}: {self.text!r}: {unknown_key('.'.join(key[: depth + 1]), allowed)}")
            value = value[name]
        return value


def skipped(configs: Sequence[Config], conditions: Sequence[Condition]) -> dict[int, str]:
    """Position -> the first condition that holds, for the cells to skip. Errors: `ConfigError` if all cells are skipped."""
    found = {
        place: condition.text
        for place, config in enumerate(configs)
        if (condition := next((each for each in conditions if each.holds(config)), None)) is not None
    }
    if len(found) == len(configs):
        raise ConfigError(f"{KEY}={[each.text for each in conditions]}: skips all {len(configs)} cells")
    return found


def _key(node: ast.expr) -> list[str]:
    """The names of a dotted key; empty if the expression is something else."""
    if isinstance(node, ast.Name):
        return [node.id]
    above = _key(node.value) if isinstance(node, ast.Attribute) else []
    return [*above, node.attr] if above and isinstance(node, ast.Attribute) else []
