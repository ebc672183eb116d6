from typing import Any

import pytest
from composing import zipped_sweeper
from hydra.core.override_parser.overrides_parser import OverridesParser

from runner.core.errors import ConfigError

DEFENSES = {"defense": [{"defense": "none"}, {"defense": "madry_l2", "defense.epsilon": 0.3}]}


def cells(
    *command_line: str, params: dict[str, str] | None = None, zipped: Any = None, batch: int | None = None
) -> Any:
    """The batches of cells, with `params` turned into overrides as Hydra's own sweeper does it."""
    sweeper = zipped_sweeper(max_batch_size=batch, params=params, zipped=zipped)
    stated = OverridesParser.create().parse_overrides([*_params(params, command_line), *command_line])
    return sweeper.split_arguments(stated, batch)


def _params(params: dict[str, str] | None, command_line: tuple[str, ...]) -> list[str]:
    given = {text.split("=")[0] for text in command_line}
    return [f"{key}={value}" for key, value in (params or {}).items() if key not in given]


def test_the_product_with_zipped_axes() -> None:
    (batch,) = cells(params={"seed": "0,1"}, zipped=DEFENSES)
    assert [tuple(cell) for cell in batch] == [
        ("seed=0", "defense=none"),
        ("seed=0", "defense=madry_l2", "defense.epsilon=0.3"),
        ("seed=1", "defense=none"),
        ("seed=1", "defense=madry_l2", "defense.epsilon=0.3"),
    ]


def test_two_zipped_axes_are_multiplied() -> None:
    (batch,) = cells(zipped={**DEFENSES, "attribution": [{"attribution": "a"}, {"attribution": "b", "x": 1}]})
    assert [cell[-1] for cell in batch] == ["attribution=a", "x=1"] * 2
    assert len(batch) == 4


def test_without_zipped_axes_it_is_the_basic_sweeper() -> None:
    assert cells("a=1,2", "b=3") == [[["a=1", "b=3"], ["a=2", "b=3"]]]


def test_the_command_line_wins_and_what_becomes_equal_is_one_cell() -> None:
    (batch,) = cells("defense.epsilon=0.7", "seed=5", params={"seed": "0,1"}, zipped=DEFENSES)
    assert [tuple(cell) for cell in batch] == [
        ("defense.epsilon=0.7", "seed=5", "defense=none"),
        ("defense.epsilon=0.7", "seed=5", "defense=madry_l2"),
    ]
    (batch,) = cells("defense=ssr", "defense.epsilon=0.1", zipped=DEFENSES)
    assert batch == [["defense=ssr", "defense.epsilon=0.1"]]
    (batch,) = cells("+x=1", zipped={"x": [{"x": 2}, {"x": 3}]})
    assert batch == [["+x=1"]]


def test_an_option_on_the_command_line_takes_its_points_of_a_zipped_axis() -> None:
    points = {"defense": [*DEFENSES["defense"], {"defense": "madry_l2", "defense.epsilon": 0.5}]}
    (batch,) = cells("defense=madry_l2", zipped=points)
    assert batch == [["defense=madry_l2", "defense.epsilon=0.3"], ["defense=madry_l2", "defense.epsilon=0.5"]]
    (batch,) = cells("defense=none,ssr", "seed=1,2", zipped=points)
    assert batch == [
        ["defense=none", "seed=1"],
        ["defense=none", "seed=2"],
        ["defense=ssr", "seed=1"],
        ["defense=ssr", "seed=2"],
    ]


def test_values_are_written_as_hydra_reads_them() -> None:
    point = {"a": True, "b": False, "c": None, "d": 0.1, "e": "8/255", "f": 1}
    (batch,) = cells(zipped={"x": [point]})
    parsed = OverridesParser.create().parse_overrides(batch[0])
    assert {override.key_or_group: override.value() for override in parsed} == point


def test_batches() -> None:
    assert [len(batch) for batch in cells("a=1,2,3,4,5", batch=2)] == [2, 2, 1]


def test_a_point_that_is_no_mapping_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"^hydra\.sweeper\.zipped\.x: every point must be a mapping"):
        cells(zipped={"x": [1, 2]})
