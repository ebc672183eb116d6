"""Metrics without a value: the report draws what is defined, and says and counts what is not."""

import math
import re

import numpy as np
import pandas as pd
from synthetic_store import Store, analysis_of

from runner.report.build import build_report


def lose_spearman(rows: pd.DataFrame) -> pd.DataFrame:
    """Spearman undefined for all examples, Kendall at the largest budget, top-k for one example."""
    return rows.assign(
        spearman=math.nan,
        kendall=rows["kendall"].where(rows["epsilon"] < 1.0),
        topk_intersection=rows["topk_intersection"].where(rows["example_id"] != rows["example_id"].min()),
    )


def fill(store: Store, kept_by: str) -> None:
    for defense in ("none", "ssr", "cure", "trades"):
        for attack in ("topk", "spearman", "cosine", "random"):
            folder = store.attack(defense, 0, attack=attack, epsilons=[0.0, 0.5, 1.0], kept_by=kept_by, gallery=False)
            store.edit(folder, lose_spearman)


def test_an_undefined_metric_is_drawn_as_undefined_and_counted(store: Store) -> None:
    """With the metric that every figure is about among the undefined ones: ranking, scatter, strength and curves are drawn."""
    fill(store, "spearman")
    page = build_report(store.folders, store.models, store.root / "report", "lost", "command")
    text = re.sub(r'data-value="nan"|base64,[^"]*', "", page.read_text(encoding="utf-8"))
    assert all(words in text for words in ("spearman 24", "kendall 8", "topk intersection 3"))
    assert not re.search(r"\bnan\b", text)
    drawn = {path.stem.split("-")[0] for path in (store.root / "report" / "plots").glob("*.svg")}
    assert {"curves", "ranking", "scatter", "strength"} <= drawn


def test_means_leave_undefined_values_out_and_tables_count_them(store: Store) -> None:
    fill(store, "topk_intersection")
    analysis = analysis_of(store)
    for frame in (analysis.curves, analysis.areas, analysis.critical):
        lost = frame[frame["metric"] == "spearman"]
        assert lost["mean"].isna().all()
        assert (lost.drop_duplicates(["group_id", "metric"])["undefined"] > 0).all()
    at_one = analysis.curves[(analysis.curves["metric"] == "topk_intersection") & (analysis.curves["epsilon"] == 1.0)]
    assert at_one["undefined"].eq(1).all()
    assert np.isfinite(at_one["mean"]).all()
