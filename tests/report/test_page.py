"""The texts of the page: what was measured, warnings, failures, conditions. No figures are drawn here."""

from __future__ import annotations

import re

import pytest
from synthetic_store import Store, page_of


@pytest.fixture
def store(small_store: Store) -> Store:
    return small_store


@pytest.fixture(scope="module")
def quickstart_page(quickstart: Store) -> str:
    return page_of(quickstart)


def test_the_page_says_what_was_measured_and_how_it_was_made(quickstart_page: str) -> None:
    for shown in (
        "python run.py job=report",
        "defenses none, madry_l2-0.3, madry_l2-0.6, ssr",
        "11 l2 budgets from 0 to 1; 8 test images; 2 training seeds. 16 runs finished, 0 did not.",
        "With two, the 95 % interval reaches 12.7 standard errors",
        "abc1234",
    ):
        assert shown in quickstart_page
    assert 'id="failures"' not in quickstart_page


def test_the_page_begins_with_the_paired_differences(quickstart_page: str) -> None:
    says = "saliency under topk, compared with natural training on the same images and seeds (topk intersection ↑, mean over"
    assert (
        f"{says} the budgets; 95 % intervals, p &lt; 0.05 after Holm): more robust: ssr (+0.100 ± 0.000)"
        in quickstart_page
    )
    assert quickstart_page.index("more robust: ssr") < quickstart_page.index('id="differences"')


def test_names_and_errors_are_escaped(store: Store) -> None:
    store.attack("<script>alert(1)</script>", 0)
    store.failed("<b>ssr</b>", 0, "<img src=x onerror=alert(1)>")
    text = page_of(store)
    assert "<script>alert" not in text
    assert "<b>ssr" not in text
    assert "<img src=x" not in text
    assert "&lt;b&gt;ssr&lt;/b&gt;" in text


def test_one_seed_has_no_interval_and_says_so(store: Store) -> None:
    store.attack("none", 0)
    store.attack("ssr", 0, strength=0.2)
    text = page_of(store)
    assert "± –" in text
    assert "Each configuration has one training seed" in text


def test_failures_are_in_the_page_with_their_reason(store: Store) -> None:
    store.attack("none", 0)
    store.failed("none", 1, "loss is nan at epoch 3")
    text = page_of(store, [{"status": "failed", "job": "train", "defense": "ssr", "seed": 4, "error": "out of memory"}])
    for shown in ("2 runs did not finish", "loss is nan at epoch 3", "out of memory", "1 (50 %)"):
        assert shown in text


def test_missing_galleries_are_told_in_the_page(store: Store) -> None:
    store.attack("none", 0, gallery=False)
    assert "No gallery was stored for 1 of 1 runs" in page_of(store)


@pytest.mark.parametrize(
    ("epsilons", "budgets"),
    [
        ([0.0, float("inf")], "l2 budget 0, and without a budget;"),
        ([0.0], "l2 budget 0;"),
        ([0.0, 0.5, float("inf")], "2 l2 budgets from 0 to 0.5, and without a budget;"),
    ],
)
def test_odd_grids_make_a_page(store: Store, epsilons: list[float], budgets: str) -> None:
    store.attack("none", 0, epsilons=epsilons)
    store.attack("ssr", 0, epsilons=epsilons, strength=0.2)
    text = page_of(store)
    assert budgets in text
    assert not re.search(r"\bnan\b", text.replace('data-value="nan"', ""))


def test_undefined_values_are_counted(store: Store) -> None:
    folder = store.attack("none", 0)
    store.edit(folder, lambda rows: rows.assign(topk_intersection=rows["topk_intersection"].where(rows.index > 2)))
    assert "topk intersection 3</td>" in page_of(store)


def test_the_share_that_never_reaches_one_half_stands_among_the_conditions(store: Store) -> None:
    store.attack("none", 0, strength=0.8, jitter=0.0)
    text = page_of(store)
    assert "<th>ε50 never reached, %</th>" in text
    assert "<td>37.5</td>" in text


def test_several_settings_have_a_table_each(store: Store) -> None:
    store.attack("none", 0)
    store.attack("none", 0, norm="linf", epsilons=[0.0, 2 / 255, 8 / 255])
    store.attack("none", 0, dataset="cifar10")
    titles = ["cifar10 / small_cnn, l2", "mnist5k / small_cnn, l2", "mnist5k / small_cnn, linf"]
    assert re.findall(r"<h3>(.*?)</h3>", page_of(store)) == titles
