"""Maps that show nothing, and metrics without a value: counted for each run, with flags where they are more than a few."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
from torch import Tensor

from runner.core.flags import Flag
from runner.metrics.undefined import is_constant

SHARE = 0.05
"""Largest share of degenerate clean maps, or of undefined values, without a flag."""

ZERO, CONSTANT = "map_zero", "map_constant"
"""Names of the counted properties among the measurements of a chunk; they are no columns of the rows."""


def degenerate(maps: Tensor) -> dict[str, Tensor]:
    """For maps (N, H, W), by name (N,) bool: all pixels are zero; all have one value that is not zero."""
    zero = (maps == 0).flatten(1).all(dim=1)
    return {ZERO: zero, CONSTANT: is_constant(maps) & ~zero}


def map_counts(
    clean: Sequence[Tensor], steps: Sequence[Sequence[Mapping[str, Tensor]]], epsilons: Sequence[float]
) -> Any:
    """`degenerate_maps` of result.json: how many clean maps are zero or constant, and perturbed ones at each budget.

    `clean`: maps (N, H, W) of each chunk. `steps`: for each chunk, the measurements at each budget, with `degenerate` among them;
    budgets that a state saved before maps were counted are left out.
    """
    kinds = {"zero": ZERO, "constant": CONSTANT}
    found = [degenerate(maps) for maps in clean]
    return {
        **{kind: sum(int(each[name].sum()) for each in found) for kind, name in kinds.items()},
        "perturbed": {
            f"{epsilon:g}": {
                kind: sum(int(chunk[place][name].sum()) for chunk in steps) for kind, name in kinds.items()
            }
            for place, epsilon in enumerate(epsilons)
            if all(ZERO in chunk[place] for chunk in steps)
        },
    }


def undefined_counts(rows: pd.DataFrame, metrics: Sequence[str]) -> dict[str, int]:
    """`undefined` of result.json: for each metric, the number of rows without a value. Means leave these rows out."""
    return {name: int(rows[name].isna().sum()) for name in metrics}


def number_flags(counts: Mapping[str, Any], rows: pd.DataFrame, metrics: Sequence[str]) -> dict[str, Flag]:
    """Flags on clean maps without a pattern (from `map_counts`), and on metrics without a value."""
    share = (counts["zero"] + counts["constant"]) / max(int(rows.example_id.nunique()), 1)
    missing = rows[list(metrics)].isna().groupby(rows.epsilon).mean().max(axis=1)
    beyond = tuple(float(str(epsilon)) for epsilon in missing.index[missing > SHARE])
    return {
        "degenerate_maps": Flag(
            "clean maps are zero or constant: they explain nothing, and cannot be attacked",
            share,
            SHARE,
            (),
            share > SHARE,
        ),
        "undefined_values": Flag(
            "metrics have no value for a share of the examples, which their means leave out",
            float(missing.max()),
            SHARE,
            beyond,
            bool(beyond),
        ),
    }
