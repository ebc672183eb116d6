"""Certificates next to attacks: the true worst case lies in the band between the bound and the strongest attack."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from runner.report.data import ReportData, select
from runner.stats.claims import BOUND, Claim, alarm, summary, verdicts


def certificate_bands(data: ReportData) -> pd.DataFrame:
    """One row per (configuration with a certificate, epsilon); empty without certificates.

    Columns: the certificate's bound, `attacked` (the metric under this attack), `strongest` (the mean over examples of the
    worst value over all attacks on the same model, attribution and certificate), the certificate's notes, the columns of
    `claims.verdicts`, the panel, and series, group_id, bound, metric, estimate. Means are over the examples of each seed, then
    over seeds.
    """
    frames = [_band(data, group_id, claim) for group_id, claim in data.claims.items()]
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame()


def _band(data: ReportData, group_id: str, claim: Claim) -> pd.DataFrame:
    alike = [
        other for other, stated in data.claims.items() if (stated.name, stated.metric) == (claim.name, claim.metric)
    ]
    same = data.rows[data.rows["group_id"].isin(alike)]
    strongest = claim.worst(same.groupby(["norm", "attribution", "train_id", "example_id", "epsilon"])[claim.metric])
    own = same.assign(strongest=strongest, attacked=same[claim.metric])
    own = own[own["group_id"] == group_id]
    notes = [str(name) for name in own if str(name).startswith(f"{BOUND}_") and own[name].notna().all()]
    means = own.groupby(["epsilon", "seed"])[[BOUND, "attacked", "strongest", *notes]].mean()
    frame = means.groupby("epsilon").mean().reset_index().merge(verdicts(own, claim), on="epsilon")
    labels = {**data.labels(group_id), "group_id": group_id, "bound": claim.name, "metric": claim.metric}
    return frame.assign(**labels, estimate=claim.confidence is None)


def alarms(data: ReportData) -> list[str]:
    """A sentence for every certificate that an attack beat."""
    sentences = []
    for group_id, claim in data.claims.items():
        found = summary(data.rows_of(group_id), claim)
        if found is not None and found["beaten"]:
            labels = data.labels(group_id)
            sentences.append(f"{labels['series']}, {labels['attribution']}, {labels['attack']}: {alarm(found)}")
    return sentences


def bounds_of(bands: pd.DataFrame, panel: Mapping[str, str], metric: str) -> pd.DataFrame:
    """The finite bounds on one metric in a panel."""
    if bands.empty:
        return bands
    chosen = select(bands, {**panel, "metric": metric})
    finite: pd.DataFrame = chosen[np.isfinite(chosen["epsilon"]) & np.isfinite(chosen[BOUND])]
    return finite
