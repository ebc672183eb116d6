"""Flags: named reasons not to trust a number. A result carries them as `flags`, and they are shown wherever the number is."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Flag:
    """One flag. `value` is what was measured (the worst over the budgets), `bound` its limit, `tripped` whether it is beyond.

    `epsilons`: the budgets beyond the limit; empty for a flag that is about no budget.
    """

    says: str
    value: float
    bound: float
    epsilons: tuple[float, ...] = ()
    tripped: bool = False


def as_data(flags: Mapping[str, Flag]) -> dict[str, dict[str, Any]]:
    """All flags by name, raised or not, as plain data for result.json."""
    return {name: {**asdict(flag), "epsilons": list(flag.epsilons)} for name, flag in flags.items()}


def raised(flags: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    """Name -> one sentence of every raised flag of a result."""
    return {name: _sentence(flag) for name, flag in flags.items() if flag["tripped"]}


def warn(flags: Mapping[str, Mapping[str, Any]]) -> None:
    """Log every raised flag of a result."""
    for name, sentence in raised(flags).items():
        log.warning("%s: %s", name, sentence)


def _sentence(flag: Mapping[str, Any]) -> str:
    budgets = ", ".join(f"{epsilon:g}" for epsilon in flag["epsilons"])
    where = f"epsilon {budgets}: " if budgets else ""
    return f"{flag['says']} ({where}{flag['value']:.3g}, bound {flag['bound']:.3g})"
