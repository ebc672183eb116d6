"""The numbers of a report: curves, areas, critical radii, and one summary row per configuration (failed ones included)."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pandas as pd

from runner.report.attack_suites import suite_members
from runner.report.certificate_bands import certificate_bands
from runner.report.comparisons import comparisons
from runner.report.data import CONVERGENCE, IDENTITY, PANEL, SETTING, ReportData, select
from runner.report.flagged import flags_of
from runner.report.naming import budget_phrase, in_order, natural_key, words
from runner.report.transfers import transfers
from runner.stats import Interval, areas, critical, halfway, seed_interval, summarise
from runner.stats.seeds import GROUP_KEYS

_NONE = pd.DataFrame()
"""The rows of a configuration that has none."""


@dataclass(frozen=True)
class Analysis:
    """Statistics of `ReportData`, each computed once, when first asked for."""

    data: ReportData

    @cached_property
    def curves(self) -> pd.DataFrame:
        """`runner.stats.summarise`, with `series`. Where a metric is undefined for all examples, its mean is nan."""
        return self._with_series(summarise(self.data.rows, list(self.data.metrics)))

    @cached_property
    def areas(self) -> pd.DataFrame:
        """`runner.stats.areas`, with `series`."""
        return self._with_series(areas(self.data.rows, list(self.data.metrics)))

    @cached_property
    def critical(self) -> pd.DataFrame:
        """`runner.stats.critical` at the middle of each bounded metric's range, with `series`."""
        infos = self.data.metrics.values()
        levels = {info.name: halfway(info.direction, (info.low, info.high)) for info in infos}
        return self._with_series(critical(self.data.rows, {name: level for name, level in levels.items() if level}))

    @cached_property
    def bands(self) -> pd.DataFrame:
        """Certificates next to attacks: see `runner.report.certificate_bands`."""
        return certificate_bands(self.data)

    @cached_property
    def comparisons(self) -> pd.DataFrame:
        """Defenses against natural training on the same images and seeds: see `runner.report.comparisons`."""
        return comparisons(self.data)

    @cached_property
    def suites(self) -> pd.DataFrame:
        """The members of attack suites: see `runner.report.attack_suites`."""
        return suite_members(self.data)

    @cached_property
    def transfers(self) -> pd.DataFrame:
        """Transferred attacks next to white-box attacks: see `runner.report.transfers`."""
        return transfers(self.data)

    @cached_property
    def table(self) -> pd.DataFrame:
        """One row per configuration; see `_record` for the columns. Configurations whose seeds all failed are rows of nan."""
        finished = list(self.data.runs["group_id"].unique()) if len(self.data.runs) else []
        parts = [_by_group(frame) for frame in (self.curves, self.areas, self.critical)] if finished else []
        records = [self._record(group_id, *(part.get(group_id, _NONE) for part in parts)) for group_id in finished]
        records += [_failed_record(self.data, group_id) for group_id in self.data.names if group_id not in finished]
        records.sort(key=lambda record: ([str(record[key]) for key in PANEL], natural_key(record["series"])))
        return pd.DataFrame(records) if records else pd.DataFrame(columns=[*IDENTITY, "series", "n_seeds"])

    @property
    def series(self) -> list[str]:
        """All names of curves, in natural order."""
        return in_order(self.table["series"])

    @property
    def settings(self) -> list[dict[str, str]]:
        """Distinct (dataset, model, norm)."""
        return [
            {key: str(record[key]) for key in SETTING}
            for record in self.table[list(SETTING)].drop_duplicates().to_dict("records")
        ]

    def panels(self, setting: Mapping[str, str]) -> list[tuple[dict[str, str], pd.DataFrame]]:
        """(panel, its rows of the table) for each panel of a setting."""
        groups = select(self.table, setting).groupby(list(PANEL), sort=False)
        return [(dict(zip(PANEL, map(str, names), strict=True)), rows) for names, rows in groups]

    def primary(self, panel: Mapping[str, str]) -> str:
        """The metric that the attack optimised; the first metric if it optimised something else."""
        kept = [name for name in select(self.data.runs, panel)["kept_by"].unique() if name in self.data.metrics]
        return str(kept[0]) if kept else next(iter(self.data.metrics))

    def stochastic(self, panel: Mapping[str, str]) -> bool:
        """Whether the maps of a panel depend on noise, so that epsilon 0 is their noise floor and not an exact no-op."""
        return bool(select(self.data.runs, panel)["stochastic"].any())

    def budgets(self, setting: Mapping[str, str]) -> list[float]:
        """The budgets that get a column: 0 if any map is stochastic, the middle, the largest, infinity."""
        rows, runs = select(self.data.rows, setting), select(self.data.runs, setting)
        finite = sorted({float(epsilon) for epsilon in rows["epsilon"] if 0 < epsilon < math.inf})
        middle = [min(finite, key=lambda epsilon: abs(epsilon - finite[-1] / 2))] if finite else []
        floor = [0.0] if bool(runs["stochastic"].any()) else []
        unlimited = [math.inf] if (rows["epsilon"] == math.inf).any() else []
        return list(dict.fromkeys([*floor, *middle, *finite[-1:], *unlimited]))

    def _with_series(self, frame: pd.DataFrame) -> pd.DataFrame:
        """The frame with the names of curves, without the metrics that a configuration did not measure; its labels are texts."""
        runs = zip(self.data.runs["group_id"], self.data.runs["measured"], strict=True)
        measured = {(group_id, metric) for group_id, metrics in runs for metric in metrics}
        kept = [key in measured for key in zip(frame["group_id"], frame["metric"], strict=True)]
        texts = frame[kept].astype(dict.fromkeys(frame.columns.intersection(list(GROUP_KEYS)), "str"))
        return texts.assign(series=texts["group_id"].map(self.data.names))

    def _record(
        self, group_id: str, curves: pd.DataFrame, areas: pd.DataFrame, critical: pd.DataFrame
    ) -> dict[str, Any]:
        runs = self.data.runs_of(group_id).drop_duplicates("seed")
        record: dict[str, Any] = {key: runs.iloc[0][key] for key in (*IDENTITY, "stochastic")}
        record["series"] = self.data.names[group_id]
        for name in ("test_accuracy", "seconds_per_epoch"):
            record |= seed_interval(runs[name]).columns(name)
        for row in select(areas, {"how": "range"}).to_dict("records") if len(areas) else ():
            record |= _interval(row).columns(f"area_{row['metric']}")
        for row in critical.to_dict("records"):
            record |= _critical(row)
        for row in curves.to_dict("records"):
            record |= _interval(row).columns(f"{row['metric']}@{row['epsilon']:g}")
        last = curves.sort_values("epsilon").iloc[-1]
        record |= {key: float(last[key]) for key in ("unharmed", "label_preserved")}
        record |= {"largest_epsilon": float(last["epsilon"]), "n_examples": int(last["n_examples"])}
        record |= {
            "undefined": int(curves["undefined"].sum()),
            "undefined_in": _undefined(curves),
            "n_seeds": len(runs),
        }
        means = ("twin_beta", "twin_map_cosine", *(f"convergence_{name}" for name in CONVERGENCE))
        record |= {key: float(runs[key].mean()) for key in means}
        record["flags"] = ", ".join(map(words, flags_of(runs)))
        failed = len(_failed_seeds(self.data.failures, group_id) - set(map(str, runs["seed"])))
        return {**record, "failed": failed, "failure_rate": failed / max(failed + len(runs), 1)}


def _by_group(frame: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """The rows of each configuration."""
    return {str(group_id): rows for group_id, rows in frame.groupby("group_id", sort=False)}


def robustness_column(rows: pd.DataFrame, metric: str) -> tuple[str, str]:
    """(column, its meaning in words) of the table used as robustness: the area, or the value at the only budget."""
    area = f"area_{metric}"
    if area in rows and rows[area].notna().any():
        return area, "mean over the budgets"
    largest = float(rows["largest_epsilon"].max())
    return f"{metric}@{largest:g}", budget_phrase(largest)


def _failed_seeds(failures: Iterable[Mapping[str, Any]], group_id: str) -> set[str]:
    return {str(failure.get("seed")) for failure in failures if failure.get("group_id") == group_id}


def _failed_record(data: ReportData, group_id: str) -> dict[str, Any]:
    """The row of a configuration without a finished seed."""
    failure = next(entry for entry in data.failures if entry.get("group_id") == group_id)
    record = {key: failure[key] for key in IDENTITY} | {"series": data.names[group_id], "n_seeds": 0, "flags": ""}
    return {**record, "failed": len(_failed_seeds(data.failures, group_id)), "failure_rate": 1.0}


def _undefined(curves: pd.DataFrame) -> str:
    """The metrics with undefined values, and how many of each."""
    counts = curves.groupby("metric", sort=False)["undefined"].sum()
    return ", ".join(f"{metric} {int(count)}" for metric, count in counts.items() if count)


def _interval(row: Mapping[Any, Any]) -> Interval:
    return Interval(row["mean"], row["low"], row["high"], row["n_seeds"])


def _critical(row: Mapping[Any, Any]) -> dict[str, float]:
    """The median critical radius, its lower bound in `_over` if it is unknown, and the share of examples that never cross."""
    name = f"epsilon50_{row['metric']}"
    over = row["at_least"] if math.isnan(row["mean"]) else math.nan
    return _interval(row).columns(name) | {f"{name}_over": over, f"{name}_never": row["never"]}
