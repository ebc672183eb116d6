from dataclasses import dataclass, field
from typing import Any

import pytest
from hydra.errors import InstantiationException
from omegaconf import OmegaConf

from runner.core.build import build
from runner.core.errors import ConfigError, require

HERE = __name__


@dataclass(frozen=True)
class Inner:
    width: int = 1

    def __post_init__(self):
        require(self.width > 0, "inner.width", self.width, "above 0")


@dataclass(frozen=True)
class Outer:
    steps: int
    inner: Any = None
    items: list[Any] = field(default_factory=list)


def anything(**options):
    return options


def broken():
    raise RuntimeError("disk is full")


def node(target, **keys):
    return {"_target_": f"{HERE}.{target}", **keys}


def test_builds_a_plain_mapping_and_a_config_node():
    config = OmegaConf.create({"steps": 3, "part": node("Outer", steps="${steps}")})
    assert build(config.part, "part") == Outer(3) == build(node("Outer", steps=3), "part")


def test_builds_what_is_nested():
    built = build(node("Outer", steps=1, inner=node("Inner", width=2), items=[node("Inner"), 5]), "attack")
    assert built == Outer(1, Inner(2), [Inner(1), 5])


def test_containers_are_plain():
    built = build(OmegaConf.create(node("Outer", steps=1, items=[1, 2], inner={"a": 1})), "attack")
    assert (type(built.items), type(built.inner)) == (list, dict)


def test_what_must_be_given_is_named():
    with pytest.raises(
        ConfigError, match=r"^attack\.inner\.steps: cannot be left out; it must have a value, as attack.inner.ste"
    ):
        build(node("Outer", steps=1, inner=node("Outer", items=[])), "attack")


def test_partial():
    assert build(node("Outer", _partial_=True, inner=4), "attack")(steps=2) == Outer(2, 4)


def test_extra_arguments_are_passed_as_they_are():
    thing = object()
    assert build(node("Outer", steps=1), "attack", inner=thing).inner is thing


def test_extra_arguments_are_not_settable_keys():
    with pytest.raises(ConfigError, match=r"attack\.inner: no such key; allowed here are items, steps$"):
        build(node("Outer", steps=1, inner=3), "attack", inner=object())


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (node("Outer", steps=1, stpes=2), r"attack\.stpes: no such key; allowed here are inner, items, steps"),
        (
            node("Outer", steps=1, inner=node("Inner", widht=2)),
            r"attack\.inner\.widht: no such key; allowed here are width",
        ),
        (
            node("Outer", steps=1, items=[node("Inner"), node("Inner", x=2)]),
            r"attack\.items\.1\.x: no such key; allowed here are width",
        ),
        (
            node("Outer", steps=1, inner={"deep": node("Inner", x=2)}),
            r"attack\.inner\.deep\.x: no such key; allowed here are width",
        ),
        (
            node("Outer", steps=1, items=[[node("Inner", x=2)]]),
            r"attack\.items\.0\.0\.x: no such key; allowed here are width",
        ),
    ],
    ids=["top", "nested", "in a list", "in a dict", "in a list of lists"],
)
def test_unknown_keys_are_refused_wherever_they_stand(config, message):
    with pytest.raises(ConfigError, match=f"^{message}"):
        build(config, "attack")


def test_an_unknown_key_gets_a_suggestion():
    with pytest.raises(ConfigError, match=r"did you mean steps\?"):
        build(node("Outer", steps=1, stpes=2), "attack")


def test_a_target_with_free_keywords_takes_any_key():
    assert build(node("anything", a=1, b=2), "attack") == {"a": 1, "b": 2}


@pytest.mark.parametrize("target", ["no_such_module.Thing", f"{HERE}.Missing", "nodots", ""])
def test_targets_that_cannot_be_imported(target):
    with pytest.raises(ConfigError, match=rf"^attack\._target_={target}: cannot be imported"):
        build({"_target_": target}, "attack")


def test_a_nested_target_that_cannot_be_imported_names_its_place():
    with pytest.raises(ConfigError, match=r"^attack\.inner\._target_=no\.such: cannot be imported"):
        build(node("Outer", steps=1, inner={"_target_": "no.such"}), "attack")


def test_a_refusal_inside_the_target_passes_through_unchanged():
    for config in (node("Inner", width=0), node("Outer", steps=1, inner=node("Inner", width=0))):
        with pytest.raises(ConfigError) as info:
            build(config, "attack")
        assert str(info.value) == "inner.width=0: must be above 0"


def test_a_missing_key_is_told_in_one_line():
    with pytest.raises(
        ConfigError, match=r"^attack\.steps: cannot be left out; it must have a value, as attack\.steps=VALUE$"
    ):
        build(node("Outer"), "attack")
    with pytest.raises(ConfigError, match=r"^attack\.inner\.steps: cannot be left out"):
        build(node("Outer", steps=1, inner=node("Outer", items=[])), "attack")


def test_other_failures_stay_what_they_are():
    with pytest.raises(InstantiationException, match="disk is full"):
        build(node("broken"), "attack")
