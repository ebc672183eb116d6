"""The small table of its numbers with which `python run.py` ends."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from statistics import fmean
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from runner.runs.run import Run
from runner.store.folder import Folder, inside
from runner.store.torn import torn

MOST_BUDGETS = 11
"""With more budgets the table shows this many, evenly spread, the smallest and the largest among them."""
_FILES = {"attack": "rows.parquet", "evaluate": "summary.parquet"}


def show_numbers(run: Run, result: dict[str, Any]) -> None:
    """Print the numbers of a finished run and where its files are; for a report, only its page."""
    console, folder = Console(soft_wrap=False), run.folder
    if run.job.name in _FILES:
        console.print(_budgets(run, folder, result))
    if "test_accuracy" in result and result["test_accuracy"] is not None:
        console.print(f"test accuracy {_percent(result)}", highlight=False)
    page = folder / "index.html"
    console.print(str(page if page.is_file() else folder), soft_wrap=True, highlight=False)


def _percent(result: dict[str, Any]) -> str:
    mean = f"{100 * result['test_accuracy']:.1f} %"
    low, high = (result.get(f"test_accuracy_{side}") for side in ("low", "high"))
    if low is None or high is None or low < 0 or high > 1:  # as over two seeds
        return mean
    return f"{mean} (95 % interval {100 * low:.1f} to {100 * high:.1f} %)"


def _budgets(run: Run, folder: Path, result: dict[str, Any]) -> Table:
    """One row per budget, one column per metric: means over the examples, over seeds with half their 95 % interval."""
    directions = _directions(run, result)
    columns = ["epsilon", "metric", "mean", "low", "high"] if run.job.name == "evaluate" else ["epsilon", *directions]
    rows = _read(folder / _FILES[run.job.name], columns)
    cells = _over_seeds(rows) if run.job.name == "evaluate" else _of_rows(rows, list(directions))
    title = " · ".join(str(run.columns[key]) for key in ("dataset", "model", "defense", "attribution", "attack"))
    table = Table(
        title=f"{title}, {run.config['epsilon']['norm']}", title_justify="left", box=SIMPLE_HEAD, padding=(0, 1, 0, 0)
    )
    table.add_column("epsilon", justify="right")
    for name, direction in directions.items():
        arrow = "↑" if direction == "higher" else "↓"
        table.add_column(f"{name.replace('_', ' ')} {arrow}", justify="right")
    for epsilon in _spread(sorted({epsilon for epsilon, _ in cells})):
        table.add_row(f"{epsilon:g}", *(cells[epsilon, name] for name in directions))
    table.caption = f"{_counted(result)}; arrows point to more robust values"
    table.caption_justify = "left"
    return table


def _counted(result: dict[str, Any]) -> str:
    if "runs" in result:
        return f"means and half the 95 % intervals over {len(result['runs'])} seeds"
    return f"means over {result['examples']} examples"


def _directions(run: Run, result: Mapping[str, Any]) -> dict[str, str]:
    """Metric -> whether higher or lower is more robust, as the attack states it, or the first attack of an evaluation.

    Where that attack has been removed, the metrics are built.
    """
    stated = Folder(inside(run.outputs, result["runs"][0])).result() if "runs" in result else result
    if stated is None:
        return {name: metric.direction for name, metric in run.parts.metrics.items()}
    return {name: metric["direction"] for name, metric in stated["metrics"].items()}


def _read(path: Path, columns: list[str]) -> list[dict[str, Any]]:
    """Rows of a table, without pandas, which takes longer to import than all this. Errors: `StoreError` as `read_rows`."""
    from pyarrow.parquet import ParquetFile  # late: a training and a report have no such table

    try:
        table = ParquetFile(path).read(columns)
    except (OSError, ValueError) as error:  # pyarrow's own errors are both
        raise torn(path, error) from None
    if missing := sorted(set(columns) - set(table.column_names)):
        raise torn(path, f"columns missing: {', '.join(missing)}")
    rows: list[dict[str, Any]] = table.to_pylist()
    return rows


def _over_seeds(rows: list[dict[str, Any]]) -> dict[tuple[float, str], str]:
    found = {}
    for row in rows:
        mean, low, high = (_number(row[name]) for name in ("mean", "low", "high"))
        half = (high - low) / 2
        found[row["epsilon"], row["metric"]] = f"{mean:.3f}" + ("" if math.isnan(half) else f"±{half:.3f}")
    return found


def _of_rows(rows: list[dict[str, Any]], metrics: list[str]) -> dict[tuple[float, str], str]:
    values = defaultdict[tuple[float, str], list[float]](list)
    for row in rows:
        for name in metrics:
            values[row["epsilon"], name] += [] if math.isnan(_number(row[name])) else [row[name]]
    return {place: f"{fmean(defined) if defined else math.nan:.3f}" for place, defined in values.items()}


def _number(value: float | None) -> float:
    """A number of a stored table, where what is undefined (as an interval over one seed) is null."""
    return math.nan if value is None else value


def _spread(epsilons: list[float]) -> list[float]:
    if len(epsilons) <= MOST_BUDGETS:
        return epsilons
    places = {round(number * (len(epsilons) - 1) / (MOST_BUDGETS - 1)) for number in range(MOST_BUDGETS)}
    return [epsilons[place] for place in sorted(places)]
