"""Exact decimal ranges for sweeps: `decimals(0.1, 1.0, 0.1)` is 0.1, 0.2, ..., 1.0, both ends included.

Hydra's own `range` adds floats: it may stop before its end or pass it, and yields 0.30000000000000004.
"""

from __future__ import annotations

import re
from decimal import Decimal
from fractions import Fraction

from runner.core.errors import ConfigError, require
from runner.core.grid import exact

MOST = 10_000
"""Values of a range; a longer one must be a typo."""

_RANGE = re.compile(r"\bdecimals\(([^()]*)\)")
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")


def decimals(start: str, stop: str, step: str, key: str = "decimals") -> list[str]:
    """The numbers from `start` to `stop` as text: whole numbers if all three are written as whole numbers, else with a point.

    Errors: `ConfigError` naming `key`, for a text that is not a decimal number or a step that does not divide the range.
    """
    written = f"decimals({start},{stop},{step})"
    for text in (start, stop, step):
        require(
            bool(_NUMBER.fullmatch(text)),
            key,
            written,
            f"a range of three decimal numbers, and {text or 'an empty text'} is not one",
        )
    first, last, width = (exact(text, key) for text in (start, stop, step))
    require(width > 0, key, written, f"a range with a step above 0, not {step}")
    require(last >= first, key, written, f"a range whose stop is at least its start {start}")
    count = (last - first) / width
    require(count.denominator == 1, key, written, f"a range whose step divides stop - start = {_spelled(last - first)}")
    require(count < MOST, key, written, f"a range of at most {MOST} values")
    whole = all(text.lstrip("+-").isdigit() for text in (start, stop, step))
    return [_spelled(first + place * width, whole) for place in range(int(count) + 1)]


def spelled_out(text: str, key: str) -> str:
    """The text with each `decimals(...)` replaced by its values, separated by commas. Errors: `ConfigError` naming `key`."""

    def values(found: re.Match[str]) -> str:
        start, stop, step = _bounds(found, key)
        return ",".join(decimals(start, stop, step, key))

    return _RANGE.sub(values, text)


def listed(text: str, key: str) -> list[str]:
    """The values of `decimals(0.1, 1.0, 0.1), 0.25`; a text without a range is one value. Errors: `ConfigError`."""
    if not _RANGE.search(text):
        return [text]
    return [value.strip() for value in spelled_out(text, key).split(",")]


def _bounds(found: re.Match[str], key: str) -> list[str]:
    bounds = [bound.strip() for bound in found[1].split(",")]
    if len(bounds) != 3:
        raise ConfigError(f"{key}={found[0]}: must be decimals(START, STOP, STEP), as in decimals(0.1, 1.0, 0.1)")
    return bounds


def _spelled(number: Fraction, whole: bool = True) -> str:
    """A number with a finite decimal form, written without an exponent."""
    text = format(Decimal(number.numerator) / number.denominator, "f")
    return text if whole or "." in text else f"{text}.0"
