"""The claim of a certificate, and a test of whether an attack beat it more often than its confidence allows.

A certificate with confidence p fails on an example with probability at most 1 - p, over its own noise and that of the
evaluation. The number of failures among n examples at one budget is therefore at most Binomial(n, 1 - p) distributed; more
failures are evidence against the certificate or the code that computes it. An estimate (no confidence) promises nothing and
cannot be beaten.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from runner.core.types import Direction

BOUND = "certificate"
"""Column of the bound; columns `certificate_NAME` are notes on it."""

SIGNIFICANCE = 0.001
"""Probability of a false alarm in one run, over all its budgets (Bonferroni)."""

_SLACK = 1e-6
"""A violation is larger than this; rounding moves a metric less."""


@dataclass(frozen=True)
class Claim:
    """A bound on a metric that holds with a confidence; None for an estimate, which promises nothing."""

    name: str
    metric: str
    direction: Direction
    confidence: float | None

    @classmethod
    def read(cls, result: Mapping[str, Any]) -> Claim | None:
        """The claim in the `result.json` of an attack; None without a certificate."""
        stated = result.get("certificate")
        if not stated:
            return None
        direction = result["metrics"][stated["bounds"]]["direction"]
        return cls(stated["name"], stated["bounds"], direction, stated["confidence"])

    def beyond(self, rows: pd.DataFrame) -> pd.Series:
        """Whether the metric of each row is worse than its bound, by more than rounding."""
        sign = -1.0 if self.direction == "higher" else 1.0
        return sign * (rows[self.metric] - rows[BOUND]) > _SLACK

    def worst(self, values: Any) -> Any:
        """The least robust of grouped values."""
        return values.transform("min" if self.direction == "higher" else "max")


def verdicts(rows: pd.DataFrame, claim: Claim) -> pd.DataFrame:
    """One row per epsilon: examples, violations, undefined, expected (at most, on average), p_value, beaten.

    `rows` are those of one attack, over any number of seeds; `undefined` counts those without a metric or a bound, which are not
    among the examples. `p_value` is the probability of at least this many violations if the certificate holds with exactly its
    confidence; `beaten` means that it is below `SIGNIFICANCE` / number of budgets with examples. Estimates have nan and False.
    """
    from scipy.stats import binom  # takes most of a second to import

    known = rows[claim.metric].notna() & rows[BOUND].notna()
    marked = rows.assign(examples=known, violations=claim.beyond(rows) & known, undefined=~known)
    frame = marked.groupby("epsilon")[["examples", "violations", "undefined"]].sum().reset_index()
    if claim.confidence is None:
        return frame.assign(expected=math.nan, p_value=math.nan, beaten=False)
    allowed = 1.0 - claim.confidence
    chances = binom.sf(frame["violations"].to_numpy() - 1, frame["examples"].to_numpy(), allowed)
    frame = frame.assign(expected=frame["examples"] * allowed, p_value=chances)
    return frame.assign(beaten=frame["p_value"] < SIGNIFICANCE / max(int((frame["examples"] > 0).sum()), 1))


def summary(rows: pd.DataFrame, claim: Claim) -> dict[str, Any] | None:
    """The budget with the smallest p-value, as `certificate_violations` of an evaluation's result; None for an estimate."""
    found = verdicts(rows, claim)
    if claim.confidence is None or not found["examples"].any():
        return None
    worst = found.sort_values(["p_value", "epsilon"]).iloc[0]
    return {
        "certificate": claim.name,
        "beaten": bool(found["beaten"].any()),
        "confidence": claim.confidence,
        "epsilon": float(worst["epsilon"]),
        "violations": int(worst["violations"]),
        "examples": int(worst["examples"]),
        "expected_at_most": float(worst["expected"]),
        "p_value": float(worst["p_value"]),
        "by_epsilon": {f"{row['epsilon']:g}": int(row["violations"]) for row in found.to_dict("records")},
    }


def alarm(found: Mapping[str, Any]) -> str:
    """A sentence about a certificate that was beaten, from its `summary`."""
    return (
        f"An attack beat the certificate {found['certificate']}: {found['violations']} of {found['examples']} examples lie "
        f"beyond their bound at epsilon {found['epsilon']:g}, where at most {found['expected_at_most']:.3g} are expected at "
        f"confidence {found['confidence']:g} (p = {found['p_value']:.1e}). The certificate, or the code that computes it, is "
        "wrong."
    )
