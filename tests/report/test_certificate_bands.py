"""Certificates next to attacks: the band, its table, and the alarm."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from synthetic_store import Store, analysis_of, page_of

from runner.report.tables.certificates import certificate_table


@pytest.fixture
def store(store: Store) -> Store:
    return Store(store.root, metrics=("topk_intersection", "cosine_distance"))


def test_a_certificate_that_holds(store: Store) -> None:
    for seed in (0, 1):
        store.attack_with_bound(-0.1, seed=seed)
    frame = analysis_of(store).bands
    assert frame["epsilon"].tolist() == [0.0, 0.5, 1.0]
    assert frame["certificate"].tolist() == pytest.approx((frame["attacked"] - 0.1).tolist())
    assert frame["certificate_smoothed"].tolist() == [0.5] * 3
    page = page_of(store)
    assert 'id="certificates"' in page
    assert "Certificate violated" not in page
    assert "0 of 16 (at most 0.8 expected)" in page


def test_a_certificate_that_was_beaten(store: Store) -> None:
    store.attack_with_bound(0.1, defense="ssr")
    store.attack_with_bound(-0.1, defense="none")
    page = page_of(store)
    assert page.count("Certificate violated") == 1
    assert "ssr, saliency, topk: An attack beat the certificate levine_topk: 8 of 8 examples" in page


def test_no_certificate_no_section(store: Store) -> None:
    store.attack(gallery=False, history=False)
    assert analysis_of(store).bands.empty
    assert 'id="certificates"' not in page_of(store)


def test_the_strongest_attack_is_taken_example_by_example(store: Store) -> None:
    weak = store.attack_with_bound(-0.5, attack="random_sign", strength=0.2, metric="cosine_distance")
    strong = store.attack_with_bound(-0.5, attack="topk", strength=0.4, metric="cosine_distance")
    store.edit(
        weak, lambda rows: rows.assign(cosine_distance=rows["cosine_distance"].where(rows["example_id"] != 100, 0.9))
    )
    rows = [pd.read_parquet(folder / "rows.parquet") for folder in (weak, strong)]
    frame = analysis_of(store).bands.set_index(["attack", "epsilon"])
    worst = np.maximum(rows[0]["cosine_distance"], rows[1]["cosine_distance"])
    expected = worst[rows[0]["epsilon"] == 1.0].mean()
    assert frame.loc[("topk", 1.0), "strongest"] == pytest.approx(expected)
    assert frame.loc[("random_sign", 1.0), "strongest"] == pytest.approx(expected)
    assert frame.loc[("topk", 1.0), "attacked"] < expected


def test_infinite_bounds_are_named_in_the_table(store: Store) -> None:
    folder = store.attack_with_bound(0.1, metric="cosine_distance", jitter=0.0)
    store.edit(folder, lambda rows: rows.assign(certificate=rows["certificate"].where(rows["epsilon"] < 1.0, np.inf)))
    assert [row["mean bound"] for row in certificate_table(analysis_of(store).bands)] == ["0.1", "0.3", "no bound"]
