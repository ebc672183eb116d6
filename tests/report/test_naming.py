"""Names of curves and files, and their order."""

from __future__ import annotations

from synthetic_store import Store

from runner.report.load import load
from runner.report.naming import curve_name, in_order, is_undefended, slug


def test_configurations_of_one_name_are_told_apart(store: Store) -> None:
    store.attack("madry_l2", 0, group="a")
    store.attack("madry_l2", 0, group="b")
    store.attack("none", 0)
    names = load(store.folders, store.models).names
    assert len(set(names.values())) == 3
    assert sorted(name.split("#")[0] for name in names.values()) == ["madry_l2 ", "madry_l2 ", "none"]
    assert all(key.startswith(name.split("#")[1]) for key, name in names.items() if "#" in name)


def test_natural_order_puts_the_undefended_first_and_numbers_by_size() -> None:
    names = ["ssr", "madry_l2-0.3x20", "madry_l2-1.0x7", "none", "madry_l2-0.25x7", "madry_l2-0.3x7"]
    assert in_order(names) == ["none", "madry_l2-0.25x7", "madry_l2-0.3x7", "madry_l2-0.3x20", "madry_l2-1.0x7", "ssr"]


def test_a_curve_of_given_weights_is_named_after_their_file_and_is_not_undefended() -> None:
    name = curve_name({"defense": "none", "weights": "ckpt_a"})
    assert name == "none (ckpt_a)"
    assert not is_undefended(name)
    assert is_undefended("none #102a")
    assert curve_name({"defense": "ssr", "weights": float("nan")}) == "ssr"


def test_file_names_are_plain() -> None:
    assert slug("a b", "ssr #12/é") == "a_b-ssr_12_"
