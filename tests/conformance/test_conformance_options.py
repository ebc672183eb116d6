"""What every plug-in refuses, before it is made: values of the wrong type, and choices that do not exist."""

import inspect
import re
from collections.abc import Iterator
from functools import cache
from types import NoneType
from typing import Any, Literal, get_args, get_origin

import pytest
from composing import ROOT, composed
from hydra.utils import get_object

from runner.core.build import build
from runner.core.errors import ConfigError
from runner.core.type_hints import hints_of

PLAIN = (int, float, bool, str, NoneType)
GROUPS = "attacks|attributions|certificates|datasets|defenses|metrics|models"


@cache
def targets() -> list[str]:
    """Everything of these groups that a YAML names, wherever it stands in it."""
    texts = [path.read_text(encoding="utf-8") for path in sorted((ROOT / "conf").rglob("*.yaml"))]
    return sorted({name for text in texts for name in re.findall(rf"_target_: *(runner\.(?:{GROUPS})\.[\w.]+)", text)})


def members(hint: Any) -> tuple[Any, ...]:
    """The types of a union and of the items of a list; another hint itself."""
    inside = get_args(hint) if get_origin(hint) is not Literal else ()
    return tuple(part for item in inside for part in members(item)) or (hint,)


def wrong_values(target: str) -> Iterator[tuple[str, Any]]:
    """(field, value that it cannot have): a mapping for plain fields, an unknown choice for those that are one of a few."""
    for name, hint in hints_of(get_object(target)).items():
        plain = [part for part in members(hint) if part in PLAIN or get_origin(part) is Literal]
        if name in inspect.signature(get_object(target)).parameters and len(plain) == len(members(hint)):
            yield name, {"of": "no type"}
            if any(get_origin(part) is Literal for part in plain) and str not in plain:
                yield name, "no_such_choice"


@pytest.mark.parametrize("target", targets())
def test_the_types_of_all_its_options_can_be_read(target: str) -> None:
    """Where they cannot, nothing is checked."""
    options = inspect.signature(get_object(target)).parameters
    assert options.keys() <= hints_of(get_object(target)).keys()


@pytest.mark.parametrize("target", targets())
def test_a_wrong_type_or_choice_is_one_line_that_names_the_key(target: str) -> None:
    for name, value in wrong_values(target):
        with pytest.raises(ConfigError) as caught:
            build({"_target_": target, name: value}, "group")
        told = str(caught.value)
        assert told.startswith(f"group.{name}={value}: "), told
        assert "\n" not in told
        choices = [str(choice) for part in members(hints_of(get_object(target))[name]) for choice in get_args(part)]
        assert all(choice in told for choice in choices), told


def test_most_plugins_have_options_that_are_checked() -> None:
    checked = [target for target in targets() if [*wrong_values(target)]]
    assert len(targets()) > 60
    assert len(checked) > 0.7 * len(targets())
    literal = [target for target in checked for _, value in wrong_values(target) if value == "no_such_choice"]
    assert len(literal) > 30


WHOLE = ("attack", "attribution", "certificate", "dataset", "defense", "epsilon", "model", "training")


@pytest.mark.parametrize("group", [*WHOLE, "metrics"])
def test_every_key_that_may_be_set_stands_in_the_yaml(group: str) -> None:
    """Where it stands, as null at least, no plus is needed to set it."""
    for name in sorted(path.stem for path in (ROOT / "conf" / group).glob("*.yaml")):
        chosen = composed(f"{group}=[{name}]" if group == "metrics" else f"{group}={name}")
        node = chosen.metrics.measured[name] if group == "metrics" else chosen[group]
        takes = inspect.signature(get_object(node["_target_"])).parameters.values()
        optional = [parameter.name for parameter in takes if parameter.default is not parameter.empty]
        assert [key for key in optional if key not in node] == [], name
