"""Conditions that skip cells: what they say, what they refuse, and a sweep that has some."""

import re
from typing import Any

import pytest

from runner.core.errors import ConfigError
from runner.sweeps.skip_conditions import Condition, skipped

CONFIG: dict[str, Any] = {
    "defense": {"name": "none", "steps": 7, "epsilon": 0.3, "attack": {"norm": "l2"}},
    "seeds": [0, 1],
    "examples": None,
    "dataset": {"download": True, "root": "a b"},
}


@pytest.mark.parametrize(
    ("text", "true"),
    [
        ("defense.name == 'none' and defense.steps == 7", True),
        ("defense.name != 'none' or defense.steps > 7", False),
        ("defense.steps in [7, 20] and defense.attack.norm not in ('linf', 'l0')", True),
        ("not defense.steps < 7 <= 7.0", True),
        ("0 < defense.epsilon < 0.3", False),
        ("defense.epsilon == 0.30000000000000004", True),
        ("-1 < defense.steps and seeds == [0, 1] and 1 in seeds", True),
        ("examples == null and examples == None and dataset.download == true", True),
        ("dataset.download == false", False),
        ("'epsilon' in defense and 'points' not in defense", True),
        ("defense.name == 'madry_l2' and defense.points == 2", False),
        ("'b' in dataset.root", True),
        ("dataset.download", True),
    ],
)
def test_what_holds(text: str, true: bool) -> None:
    assert Condition.read(text).holds(CONFIG) is true


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("__import__('os').system('true')", "__import__('os').system('true')"),
        ("defense.name.__class__()", "defense.name.__class__()"),
        ("seeds[0] == 1", "seeds[0]"),
        ("defense.steps + 1 == 8", "defense.steps + 1"),
        ("[x for x in seeds] == []", "[x for x in seeds]"),
        ("'a'.upper == 1", "'a'.upper"),
        ("defense is None", "defense is None"),
        ("b'x' == 1", "b'x'"),
        ("defense.steps == ...", "..."),
        ("(lambda: 1) == 1", "lambda: 1"),
        ("f'{defense}' == 'x'", "f'{defense}'"),
    ],
)
def test_what_is_refused_before_any_cell_is_looked_at(text: str, part: str) -> None:
    told = f"hydra.sweeper.skip_if: {text!r} has {part!r}; allowed are comparisons, in, and, or, not, "
    with pytest.raises(ConfigError, match="^" + re.escape(told)):
        Condition.read(text)


@pytest.mark.parametrize("text", ["defense.name = 'none'", "defense.name ==", "", "a\0b"])
def test_what_is_no_expression(text: str) -> None:
    with pytest.raises(ConfigError, match=r"^hydra\.sweeper\.skip_if: .* is not an expression \("):
        Condition.read(text)


def test_a_key_that_is_not_there_is_named_with_its_expression() -> None:
    text = "defense.name == 'none' and defense.step == 7"
    told = f"hydra.sweeper.skip_if: {text!r}: defense.step: no such key; allowed here are attack, epsilon, name, steps (did"
    with pytest.raises(ConfigError, match="^" + re.escape(told)):
        Condition.read(text).holds(CONFIG)
    with pytest.raises(ConfigError, match=re.escape("defense.name.__class__: no such key; allowed here are none")):
        Condition.read("defense.name.__class__ == 1").holds(CONFIG)


def test_what_cannot_be_compared() -> None:
    with pytest.raises(
        ConfigError, match=r"^hydra\.sweeper\.skip_if: 'examples > 3' cannot be evaluated for a cell: '>' not"
    ):
        Condition.read("examples > 3").holds(CONFIG)


def test_positions_and_a_sweep_without_a_cell_left() -> None:
    conditions = [Condition.read("seed > 1"), Condition.read("seed in [0, 2]")]
    assert skipped([{"seed": seed} for seed in range(3)], conditions) == {0: "seed in [0, 2]", 2: "seed > 1"}
    assert skipped([{"seed": 1}], []) == {}
    with pytest.raises(ConfigError, match=r"^hydra\.sweeper\.skip_if=\['seed > 1', .*\]: skips all 2 cells"):
        skipped([{"seed": 0}, {"seed": 2}], conditions)


def test_a_dry_run_says_what_is_skipped_and_why(run_py, monkeypatch, tmp_path) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    cells = ("job=train", "dataset=digits", "model=mlp", "defense=none,madry_l2", "defense.steps=3,7", "seed=0,1")
    skip = "hydra.sweeper.skip_if=[\"defense.name == 'none' and (defense.steps > 3 or seed == 1)\"]"
    here = ("-m", *cells, f"outputs={tmp_path}", "hydra.launcher.dry_run=true")
    code, shown, said = run_py(*here, skip)
    assert code == 2
    assert said.strip().splitlines()[-1].startswith("error: defense.steps: no such key"), (
        "a cell that is left, and unfit"
    )
    skip = skip.replace("(defense.steps > 3 or seed == 1)", "'steps' in defense")
    code, shown, said = run_py(*here, skip)
    assert code == 3
    assert "4 cells, 4 runs to do" in said
    assert "4 cells: 0 done, 4 missing, 0 failed, 0 stale, 0 running; 4 skipped" in shown
    assert re.search(r"defense\.name == 'none' and 'steps' in defense\s+│\s+4 │", shown)
    assert len(re.findall(r"train │ skipped │ .*defense=none", shown)) == 4
    assert len(re.findall(r"train │ missing │ .*defense=madry_l2", shown)) == 4
    code, _, said = run_py(*here)
    assert code == 1
    assert "steps" in said, "without a condition Hydra refuses a key that a defense does not have"
