"""Transfer: the harm that images optimised on one attribution or model do to another, next to the white-box attack.

The transfer gap is (white-box drop - transferred drop) / white-box drop: 0 if the images do as much harm as an attack on the
target itself, 1 if they do none. A drop is the change of the attacked metric from epsilon 0 to the largest budget. Without a
finished run of the white-box attack there is no gap.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import pandas as pd

from runner.report.data import ReportData
from runner.stats import seed_interval

MATRIX = ("dataset", "norm", "where", "attack", "metric")
"""Transfers that share these form one matrix; `where` is the model or the attribution that source and target share."""
ENTRY = (*MATRIX, "optimised_on", "scored_on")
SPREAD = ("value", "gap")
MEANS = ("epsilon", "map_cosine", "same_prediction", "found")
WHITE_BOX = "white box"
"""Row of the attack on the target itself, where the sources are other models."""
_LEAST_DROP = 1e-9

Record = Mapping[Any, Any]


def transfers(data: ReportData) -> pd.DataFrame:
    """One row per entry of a matrix, white-box attacks included; empty without transfers.

    Columns: `ENTRY`, white_box (bool), value (the metric at the largest budget) and gap with _low and _high over seeds,
    `MEANS`, n_seeds.
    """
    runs = data.runs
    moved = runs[runs["source_run"].notna()] if "source_run" in runs else runs[:0]
    if moved.empty:
        return pd.DataFrame()
    ends = _ends(data)
    ends |= {run["source_white_box"]: ends[run["run_id"]] for run in moved.to_dict("records") if run["source_itself"]}
    records = []
    for run in moved[~moved["source_itself"].astype(bool)].to_dict("records"):
        white_box = ends.get(str(run["source_white_box"]))
        records += _records(run, ends[run["run_id"]], white_box)
    if not records:
        return pd.DataFrame()
    frame = pd.DataFrame(records).drop_duplicates([*ENTRY, "seed", "group_id"])
    grouped = _told_apart(frame).groupby(list(ENTRY), sort=False)
    return pd.DataFrame([_entry(dict(zip(ENTRY, map(str, key), strict=True)), group) for key, group in grouped])


def _ends(data: ReportData) -> dict[str, dict[str, float]]:
    """run_id -> the largest budget, the attacked metric there, and its drop from epsilon 0."""
    found: dict[str, dict[str, float]] = {}
    rows = dict(iter(data.rows.groupby("run_id")))
    for run in data.runs.to_dict("records"):
        info, own = data.metrics.get(run["kept_by"]), rows.get(str(run.get("run_id")))
        if info is None or own is None:
            continue
        means = own.groupby("epsilon")[info.name].mean()
        first, last = float(means.iloc[0]), float(means.iloc[-1])
        drop = first - last if info.direction == "higher" else last - first
        found[run["run_id"]] = {"epsilon": float(means.index[-1]), "value": last, "drop": drop}
    return found


def _records(run: Record, end: Mapping[str, float], white_box: Mapping[str, float] | None) -> list[dict[str, Any]]:
    """The transfer, and the white-box attack on its target if that is finished."""
    where, optimised_on, scored_on, itself = _names(run)
    shared = {"dataset": run["dataset"], "norm": run["norm"], "metric": run["kept_by"], "seed": run["seed"]}
    shared |= {"where": where, "attack": run["source_attack"], "scored_on": scored_on, "gap": math.nan}
    measured = {key: run[f"source_{key}"] for key in ("map_cosine", "same_prediction", "found")}
    transfer = {
        **shared,
        **end,
        "optimised_on": optimised_on,
        "white_box": False,
        "group_id": run["group_id"],
        **measured,
    }
    if white_box is None:
        return [transfer]
    if white_box["drop"] > _LEAST_DROP:
        transfer["gap"] = (white_box["drop"] - end["drop"]) / white_box["drop"]
    own = {"optimised_on": itself, "white_box": True, "group_id": "", **dict.fromkeys(measured, math.nan)}
    return [transfer, {**shared, **white_box, **own}]


def _names(run: Record) -> tuple[str, str, str, str]:
    """(where, optimised_on, scored_on, the row of the white-box attack): attributions if source and target are one model,
    else models."""
    model, attribution = f"{run['model']}, {run['defense']}", run["attribution"]
    if all(run[f"source_{key}"] == run[key] for key in ("model", "defense", "seed")):
        return model, run["source_attribution"], attribution, attribution
    source = [run["source_model"], run["source_defense"], f"seed {run['source_seed']:g}"]
    source += [run["source_attribution"]] if run["source_attribution"] != attribution else []
    return attribution, ", ".join(source), model, WHITE_BOX


def _told_apart(frame: pd.DataFrame) -> pd.DataFrame:
    """Sources of the same name that differ in something else get a short id."""
    moved = frame[~frame["white_box"]]
    counts = moved.groupby(list(ENTRY))["group_id"].transform("nunique")
    clash = counts[counts > 1].index
    names = frame["optimised_on"].copy()
    names.loc[clash] += " #" + frame.loc[clash, "group_id"].str[:4]
    return frame.assign(optimised_on=names)


def _entry(labels: Mapping[str, str], group: pd.DataFrame) -> dict[str, Any]:
    record: dict[str, Any] = {**labels, "white_box": bool(group["white_box"].iloc[0])}
    for name in SPREAD:
        record |= seed_interval(group[name]).columns(name)
    return {**record, **{name: float(group[name].mean()) for name in MEANS}, "n_seeds": int(group["seed"].nunique())}
