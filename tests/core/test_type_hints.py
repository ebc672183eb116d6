from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import pytest

from runner.core.errors import ConfigError
from runner.core.grid import EpsilonGrid
from runner.core.type_hints import check_types, hints_of, words

if TYPE_CHECKING:
    from nowhere import Unknown


@dataclass
class Thing:
    count: int = 1
    size: float | str = 0.1
    flag: bool = False
    limit: int | None = None
    kind: Literal["first", "second"] = "first"
    other: Literal["box"] | None = None
    channels: Literal[1, 3] = 3
    widths: Sequence[int] = (1,)
    kinds: Sequence[Literal["max", "avg"]] = ()
    free: Any = None
    call: Callable[..., int] | None = None
    budget: EpsilonGrid | None = None
    named: Mapping[str, int] = field(default_factory=dict)


class Plain:
    def __init__(self, width: int) -> None:
        self.width = width


def function(*, width: int = 1) -> int:
    return width


def unreadable(thing: "Unknown") -> None:
    pass


@pytest.mark.parametrize(
    "values",
    [
        {"count": 2, "size": 3, "flag": True, "limit": 4, "kind": "second", "other": "box", "channels": 1},
        {
            "size": "4/255",
            "limit": None,
            "other": None,
            "widths": [1, 2],
            "kinds": ["max", "avg"],
            "free": {},
            "call": {},
        },
        {"unknown": object()},
    ],
)
def test_values_of_the_right_type_pass(values):
    check_types(Thing, values, "thing")


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("count", 1.5, "thing.count=1.5: must be a whole number"),
        ("count", True, "thing.count=True: must be a whole number"),
        ("count", None, "thing.count=None: must be a whole number"),
        ("size", [], "thing.size=[]: must be a number or text"),
        ("flag", 1, "thing.flag=1: must be true or false"),
        ("limit", "no", "thing.limit=no: must be a whole number or null"),
        ("kind", "secnd", "thing.kind=secnd: allowed are first, second (did you mean second?)"),
        ("kind", 1, "thing.kind=1: allowed are first, second"),
        ("kind", None, "thing.kind=None: allowed are first, second"),
        ("other", "bx", "thing.other=bx: allowed are box, null (did you mean box?)"),
        ("channels", 2, "thing.channels=2: allowed are 1, 3"),
        ("channels", True, "thing.channels=True: allowed are 1, 3"),
        ("widths", 3, "thing.widths=3: must be a list, each item a whole number"),
        ("widths", [1, "a"], "thing.widths.1=a: must be a whole number"),
        ("kinds", ["max", "mean"], "thing.kinds.1=mean: allowed are avg, max"),
        ("call", "abc", "thing.call=abc: must be an option with a _target_: a function or null"),
        ("budget", [], "thing.budget=[]: must be an option with a _target_: EpsilonGrid or null"),
        ("named", 1, "thing.named=1: must be a mapping of names"),
        ("kinds", "max", "thing.kinds=max: must be a list, each item one of max, avg"),
    ],
)
def test_values_of_another_type_are_one_line(name, value, told):
    with pytest.raises(ConfigError) as caught:
        check_types(Thing, {"count": 1, name: value}, "thing")
    assert str(caught.value) == told


@pytest.mark.parametrize("target", [Plain, function])
def test_parameters_of_functions_and_of_constructors_are_checked(target):
    check_types(target, {"width": 2}, "thing")
    with pytest.raises(ConfigError, match=r"^thing\.width=wide: must be a whole number$"):
        check_types(target, {"width": "wide"}, "thing")


def test_hints_that_cannot_be_read_are_an_error_and_not_a_licence():
    with pytest.raises(ConfigError, match="unreadable: its type hints cannot be read .*Unknown.*at run time"):
        hints_of(unreadable)


def test_words_of_what_has_none():
    assert words(Thing) == "Thing"
