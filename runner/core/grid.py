"""Exact epsilon grids. In floats, `0.1 * 3` is not 0.3 and Hydra's range(0,1.1,0.1) has 12 values; fractions avoid both."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from fractions import Fraction

from runner.core.errors import ConfigError, require
from runner.core.types import BUDGETS, Budget

Number = float | int | str


def exact(value: Number, key: str) -> Fraction:
    """The fraction meant by 0.1, "0.1", "8/255" or a float with noise (0.30000000000000004)."""
    try:
        if isinstance(value, str):
            return Fraction(value.replace(" ", ""))
        return Fraction(Decimal(format(value, ".12g")))
    except (ValueError, InvalidOperation, ZeroDivisionError, TypeError, OverflowError):
        raise ConfigError(f"{key}={value}: must be a number such as 0.1 or 8/255") from None


def require_budget(key: str, value: Number) -> None:
    """Reject what is no budget: no number, or below 0."""
    require(exact(value, key) >= 0, key, value, "at least 0")


@dataclass(frozen=True)
class EpsilonGrid:
    """Budgets in units of [0, 1] images: `start, start+step, ..., stop` (both ends included), or `values`.

    Epsilon 0, the noise floor, is always included. `values: [inf]` is the attack without a budget. With norm `l0`, budgets are
    whole numbers of pixels; with `spatial`, shares in [0, 1] of the largest transform.
    Errors: `ConfigError` for negative or unordered budgets, a step that does not divide the range, an unknown norm.
    """

    norm: Budget
    start: Number | None = None
    stop: Number | None = None
    step: Number | None = None
    values: Sequence[Number] | None = None

    def __post_init__(self) -> None:
        if self.norm not in BUDGETS:
            raise ConfigError.choice("epsilon.norm", self.norm, BUDGETS)
        key = "epsilon.values" if self.values is not None else "epsilon.step"
        for budget in self.epsilons():
            whole = self.norm != "l0" or budget.is_integer()
            require(whole, key, f"{budget:g}", "whole numbers of pixels with epsilon.norm=l0")
            share = self.norm != "spatial" or budget <= 1
            require(share, key, f"{budget:g}", "shares of at most 1 with epsilon.norm=spatial")

    def epsilons(self) -> tuple[float, ...]:
        """The budgets, smallest first, beginning with 0."""
        grid = self._listed() if self.values is not None else self._range()
        return tuple(sorted({0.0, *grid}))

    def identity(self) -> dict[str, object]:
        """The part of the grid that counts in ids: the norm and the budgets, however they were written."""
        return {"norm": self.norm, "values": list(self.epsilons())}

    def _listed(self) -> list[float]:
        assert self.values is not None
        require(len(self.values) > 0, "epsilon.values", list(self.values), "a list of at least one budget")
        return [self._budget(value) for value in self.values]

    @staticmethod
    def _budget(value: Number) -> float:
        if str(value) in ("inf", ".inf"):
            return float("inf")
        number = exact(value, "epsilon.values")
        require(number >= 0, "epsilon.values", value, "at least 0")
        return float(number)

    def _range(self) -> list[float]:
        bounds = {"start": self.start, "stop": self.stop, "step": self.step}
        for key, value in bounds.items():
            require(value is not None, f"epsilon.{key}", value, "a number (or give epsilon.values)")
        start, stop, step = (exact(value, f"epsilon.{key}") for key, value in bounds.items() if value is not None)
        require(start >= 0, "epsilon.start", self.start, "at least 0")
        require(stop >= start, "epsilon.stop", self.stop, f"at least epsilon.start={self.start}")
        require(step > 0, "epsilon.step", self.step, "above 0")
        count = (stop - start) / step
        require(
            count.denominator == 1, "epsilon.step", self.step, f"a divisor of stop - start = {float(stop - start):g}"
        )
        require(count < 10_000, "epsilon.step", self.step, "so large that the grid has at most 10000 budgets")
        return [float(start + index * step) for index in range(int(count) + 1)]
