"""Reading the store: what counts as finished, what is missing, and what is refused."""

from __future__ import annotations

import json
import shutil

import pytest
from synthetic_store import Store

from runner.core.errors import StoreError
from runner.report.load import load


def test_everything_of_the_quickstart_is_read(quickstart: Store) -> None:
    data = load(quickstart.folders, quickstart.models)
    assert len(data.runs) == 16
    assert len(data.rows) == 16 * 11 * 8
    assert len(data.galleries) == 8
    assert {gallery.seed for gallery in data.galleries.values()} == {0}
    assert len(data.history) == 8 * 5
    assert (data.failures, data.notes) == ([], [])
    assert data.provenance == {"git.commit": ["abc1234"], "git.dirty": ["False"], "versions.torch": ["2.13.0"]}
    assert data.metrics["mass_center_shift"].high == float("inf")
    assert data.metrics["spearman"].title == "spearman ↑"


def test_only_an_ok_result_counts_as_finished(store: Store) -> None:
    store.attack("none", 0)
    killed = store.attack("none", 1)
    (killed / "result.json").unlink()
    store.failed("none", 2)
    data = load(store.folders, store.models)
    assert len(data.runs) == 1
    assert sorted(failure["error"] for failure in data.failures) == [
        "loss is nan at epoch 3",
        "not finished: no result.json",
    ]


def test_a_failure_that_is_named_twice_counts_once(store: Store) -> None:
    store.attack("none", 0)
    folder = store.failed("none", 1)
    result = json.loads((folder / "result.json").read_text())
    assert len(load(store.folders, store.models, [result]).failures) == 1


def test_a_failure_without_a_group_joins_the_configuration_of_its_labels(store: Store) -> None:
    store.attack("none", 0)
    labels = {
        "dataset": "mnist5k",
        "model": "small_cnn",
        "defense": "none",
        "attribution": "saliency",
        "attack": "topk",
    }
    data = load(store.folders, store.models, [{**labels, "norm": "l2", "seed": 1, "error": "x"}])
    assert data.failures[0]["group_id"] == data.runs["group_id"][0]


def test_missing_galleries_and_histories_are_told(store: Store) -> None:
    store.attack("none", 0, gallery=False, history=False)
    store.attack("ssr", 0)
    data = load(store.folders, store.models)
    assert len(data.galleries) == 1
    assert data.notes[0].startswith("No gallery was stored for 1 of 2 runs: mnist5k-small_cnn-none-")
    assert data.notes[1] == "No training history was found for 1 of 2 models."


def test_nothing_to_report_is_an_error(store: Store) -> None:
    with pytest.raises(StoreError, match="no attack folders among the 0 given"):
        load([], store.models)


def test_an_ok_folder_that_cannot_be_read_is_an_error(store: Store) -> None:
    folder = store.attack("none", 0)
    (folder / "gallery.safetensors").write_bytes(b"torn")
    with pytest.raises(StoreError, match="not a gallery"):
        load(store.folders, store.models)
    shutil.copy(folder / "result.json", folder / "gallery.safetensors")
    (folder / "rows.parquet").unlink()
    with pytest.raises(StoreError, match="rows.parquet: cannot be read"):
        load(store.folders, store.models)
