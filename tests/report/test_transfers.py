"""Transfers: gaps from known drops, white-box runs in their rows, the figure and the page."""

from __future__ import annotations

import math
from typing import Any

import pandas as pd
import pytest
from synthetic_store import Store, analysis_of, page_of

from runner.report.figures.transfer_matrix import matrix_figures
from runner.report.tables.transfers import transfer_table
from runner.report.transfers import WHITE_BOX

STRENGTHS = {"saliency": 0.4, "smoothgrad": 0.2}
"""Drop of the top-k intersection at epsilon 1 under the white-box attack."""
SURROGATE: dict[str, Any] = {"defense": "none", "seed": 100}


def white_box(store: Store, attribution: str, seed: int = 0, **keys: Any) -> str:
    folder = store.attack(seed=seed, attribution=attribution, strength=STRENGTHS[attribution], jitter=0.0, **keys)
    return folder.name.rsplit("-", 1)[1]


def moved(store: Store, source: str, target: str, strength: float, target_seed: int = 0, **told: Any) -> None:
    stated = {"run": "x", "model": "small_cnn", "defense": "none", "attribution": source, "attack": "topk"}
    stated |= {"seed": target_seed}
    stated |= {"white_box": "absent", "itself": False, "map_cosine": 0.5, "same_prediction": 1.0, "found": 0.75, **told}
    attack = f"transfer_attribution-{source}-topk"
    keys: dict[str, Any] = {
        "strength": strength,
        "jitter": 0.0,
        "result": {"source": stated},
        "gallery": False,
        "history": False,
    }
    group = f"{stated['defense']}{stated['seed'] - target_seed}{stated['run']}"
    store.attack(seed=target_seed, attribution=target, attack=attack, group=group, **keys)


def entries(store: Store) -> pd.DataFrame:
    return analysis_of(store).transfers


def place(frame: pd.DataFrame, row: str, column: str) -> dict[str, Any]:
    (record,) = frame[(frame.optimised_on == row) & (frame.scored_on == column)].to_dict("records")
    return {str(key): value for key, value in record.items()}


def fill(store: Store) -> None:
    """The matrix of two attributions for two seeds."""
    for seed, (to_smooth, to_saliency) in enumerate([(0.1, 0.0), (0.06, 0.12)]):
        ids = {name: white_box(store, name, seed) for name in STRENGTHS}
        moved(store, "saliency", "smoothgrad", to_smooth, seed, white_box=ids["smoothgrad"])
        moved(store, "smoothgrad", "saliency", to_saliency, seed, white_box=ids["saliency"])


def test_the_gap_is_the_share_of_the_white_box_drop_that_is_lost(small_store: Store) -> None:
    fill(small_store)
    frame = entries(small_store)
    assert len(frame) == 4
    there, back = place(frame, "saliency", "smoothgrad"), place(frame, "smoothgrad", "saliency")
    assert there["gap"] == pytest.approx(((0.2 - 0.1) / 0.2 + (0.2 - 0.06) / 0.2) / 2)
    assert back["gap"] == pytest.approx((1.0 + 0.7) / 2)
    assert there["value"] == pytest.approx(1 - 0.08)
    assert there["gap_low"] < there["gap"] < there["gap_high"]
    assert (there["epsilon"], there["map_cosine"], there["found"], there["n_seeds"]) == (1.0, 0.5, 0.75, 2)
    for name, strength in STRENGTHS.items():
        diagonal = place(frame, name, name)
        assert diagonal["white_box"]
        assert diagonal["value"] == pytest.approx(1 - strength)
        assert math.isnan(diagonal["gap"])


def test_without_the_white_box_run_there_is_no_gap(small_store: Store) -> None:
    moved(small_store, "saliency", "smoothgrad", 0.1)
    (record,) = entries(small_store).to_dict("records")
    assert math.isnan(record["gap"])
    assert record["value"] == pytest.approx(0.9)


def test_a_transfer_onto_itself_stands_for_the_white_box_run(small_store: Store) -> None:
    moved(small_store, "saliency", "saliency", 0.4, run="a", white_box="a", itself=True)
    moved(small_store, "smoothgrad", "saliency", 0.1, run="b", white_box="a")
    frame = entries(small_store)
    assert place(frame, "smoothgrad", "saliency")["gap"] == pytest.approx(0.75)
    assert place(frame, "saliency", "saliency")["white_box"]


def test_surrogates_have_rows_of_their_own(small_store: Store) -> None:
    own = white_box(small_store, "saliency")
    moved(small_store, "saliency", "saliency", 0.3, white_box=own, **{**SURROGATE, "defense": "ssr"})
    moved(small_store, "saliency", "saliency", 0.1, white_box=own, **SURROGATE)
    frame = entries(small_store)
    assert set(frame.scored_on) == {"small_cnn, none"}
    assert place(frame, "small_cnn, ssr, seed 100", "small_cnn, none")["gap"] == pytest.approx(0.25)
    assert place(frame, "small_cnn, none, seed 100", "small_cnn, none")["gap"] == pytest.approx(0.75)
    assert place(frame, WHITE_BOX, "small_cnn, none")["value"] == pytest.approx(0.6)


def test_sources_of_one_name_are_told_apart(small_store: Store) -> None:
    moved(small_store, "saliency", "smoothgrad", 0.1, run="one")
    moved(small_store, "saliency", "smoothgrad", 0.2, run="two")
    frame = entries(small_store)
    assert sorted(frame["value"]) == pytest.approx([0.8, 0.9])
    assert all(name.startswith("saliency #") for name in frame.optimised_on)


def test_the_picture_has_a_number_in_every_entry(small_store: Store) -> None:
    fill(small_store)
    figures = matrix_figures(analysis_of(small_store))
    assert list(figures) == ["transfer-mnist5k-l2-small_cnn, none-topk-topk_intersection"]
    axis = next(iter(figures.values())).axes[0]
    written = {(text.get_position(), text.get_text()) for text in axis.texts}
    assert written == {
        ((0, 0), "0.600\nwhite box"),
        ((1, 0), "0.920\ngap 60 %"),
        ((0, 1), "0.940\ngap 85 %"),
        ((1, 1), "0.800\nwhite box"),
    }
    assert [label.get_text() for label in axis.get_xticklabels()] == ["saliency", "smoothgrad"]


def test_the_page_has_a_table(small_store: Store) -> None:
    fill(small_store)
    text = page_of(small_store)
    assert 'id="transfer"' in text
    assert "60.0 ±" in text
    (row,) = [row for row in transfer_table(entries(small_store)) if row["optimised on"] == "smoothgrad"]
    assert (row["mean"][:5], row["cosine of the clean maps"], row["harmed, %"]) == ("0.940", "0.500", "75.0")


def test_a_report_without_transfers_has_none(small_store: Store) -> None:
    white_box(small_store, "saliency")
    assert entries(small_store).empty
    assert 'id="transfer"' not in page_of(small_store)
