"""Keep a sweep's report small enough to be committed: `python docs/results/collect.py NAME` after `run.py -m +sweeps=NAME`.

From `outputs/reports/NAME` (or `--outputs FOLDER`) to `docs/results/NAME/`: one row a cell in `summary.csv`, the values at each
budget in `curves.csv`, three decimals or four digits, and the pictures that the page of results shows.
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

import pandas as pd

HERE = Path(__file__).parent
METRICS = ("topk_intersection", "spearman", "cosine_distance")
CELL = ["dataset", "defense", "attribution", "attack"]
ENDS = ("", "_low", "_high")
PICTURES = ("ranking", "scatter", "curves", "transfer", "strength")


def main() -> None:
    """Read the report's tables, write the small ones, copy the pictures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("name", help="name of the sweep")
    parser.add_argument("--outputs", default="outputs", help="the store")
    parser.add_argument(
        "--pictures", nargs="*", default=["ranking"], choices=PICTURES, help="kinds of pictures to keep"
    )
    arguments = parser.parse_args()
    report, folder = Path(arguments.outputs) / "reports" / arguments.name, HERE / arguments.name
    folder.mkdir(parents=True, exist_ok=True)
    write(summary(pd.read_csv(report / "tables" / "summary.csv")), folder / "summary.csv")
    write(curves(pd.read_csv(report / "tables" / "curves.csv")), folder / "curves.csv")
    for kind in arguments.pictures:
        for picture in sorted((report / "plots").glob(f"{kind}-*.svg")):
            shutil.copy(picture, folder / picture.name)


def summary(table: pd.DataFrame) -> pd.DataFrame:
    """Accuracy, cost and areas of each cell with their intervals over seeds."""
    spread = ["test_accuracy", "seconds_per_epoch", *(f"area_{name}" for name in METRICS)]
    columns = [f"{name}{end}" for name in spread for end in ENDS if f"{name}{end}" in table]
    table = table.assign(defense=table["series"])
    return table[[*CELL, "n_seeds", "failed", "n_examples", *columns, "unharmed"]].sort_values(CELL)


def curves(table: pd.DataFrame) -> pd.DataFrame:
    """Means and intervals of the chosen metrics at each budget."""
    table = table.assign(defense=table["series"])
    table = table[table["metric"].isin(METRICS) & (table["epsilon"] > 0)]
    return table[[*CELL, "epsilon", "metric", "mean", "low", "high", "n_seeds"]].sort_values(
        [*CELL, "metric", "epsilon"]
    )


def write(table: pd.DataFrame, path: Path) -> None:
    """Numbers with four digits."""
    table.to_csv(path, index=False, float_format="%.4g")


if __name__ == "__main__":
    main()
