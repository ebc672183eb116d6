"""Names of curves and files, and their order."""

from __future__ import annotations

from synthetic_store import Store

from runner.report.load import load
from runner.report.naming import in_order, slug


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


def test_file_names_are_plain() -> None:
    assert slug("a b", "ssr #12/é") == "a_b-ssr_12_"
