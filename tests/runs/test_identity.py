import copy
from pathlib import Path

import pytest
from running import attack_run, evaluate_run, train_run

from runner.core.errors import ConfigError
from runner.core.hashing import plain
from runner.runs import identity as ids


def train_id(config: ids.Config) -> str:
    return ids.digest(ids.train_identity(config))


def run_id(config: ids.Config) -> str:
    return ids.digest(ids.attack_identity(config))


def test_attack_keys_do_not_change_the_model(compose) -> None:
    config = compose()
    for key, value in (("attack_seed", 5), ("examples", 7)):
        assert train_id({**config, key: value}) == train_id(config)


@pytest.mark.parametrize(
    ("one", "same"),
    [
        ("defense.epsilon=0.3", "defense.epsilon=0.30000000000000004"),
        ("defense.epsilon=1", "defense.epsilon=1.0"),
        ("defense.epsilon=0.5", "defense.epsilon=5e-1"),
    ],
)
def test_float_noise_is_one_experiment_in_one_folder(compose, one, same) -> None:
    first, second = (compose("defense=madry_l2", text) for text in (one, same))
    assert train_run(first).folder == train_run(second).folder
    assert attack_run(first).folder == attack_run(second).folder
    assert first["defense"] == second["defense"]
    assert train_run(compose("defense=madry_l2", "defense.epsilon=0.31")).identity != train_run(first).identity


def test_canonical_numbers() -> None:
    same = [0.3, 0.30000000000000004, 0.1 + 0.2, "3/10", " 3/10"[1:]]
    assert {ids.digest({"x": value}) for value in same} == {ids.digest({"x": 0.3})}
    assert ids.digest({"x": 1}) == ids.digest({"x": 1.0}) == ids.digest({"x": 1.0 + 1e-15})
    assert ids.digest({"x": -0.0}) == ids.digest({"x": 0})
    different = [1, True, "1", None, [1], 1.0000001, 0, False, "", "true", "null", {}, []]
    assert len({ids.digest({"x": value}) for value in different}) == len(different)
    assert ids.digest({"x": 10**13}) != ids.digest({"x": 10**13 + 1})
    assert plain({"a": [0.1 + 0.2, 2.0, 1e300, float("inf"), True, "2.0"]}) == {
        "a": [0.3, 2, 1e300, float("inf"), True, "2.0"]
    }
    with pytest.raises(ConfigError, match="cannot be part"):
        ids.digest({"x": object()})


@pytest.mark.parametrize(
    "grid",
    [
        {"values": [0.2, 0.4, 0.6]},
        {"values": ["3/5", 0, 0.4, "1/5", 0.2]},
        {"start": 0.2, "stop": 0.6, "step": "1/5"},
        {"start": "0", "stop": 0.6000000000000001, "step": 0.2, "name": "mine"},
    ],
)
def test_grids_count_by_their_budgets(compose, grid) -> None:
    config = compose()
    written = {**config, "epsilon": {"_target_": "x", "norm": "l2", **grid}}
    assert run_id(written) == run_id(config)


def test_another_budget_or_norm_is_another_run_of_the_same_model(compose) -> None:
    config = compose()
    for grid in ({"norm": "linf", "values": [0.2, 0.4, 0.6]}, {"norm": "l2", "values": [0.2, 0.4, 0.7]}):
        assert run_id({**config, "epsilon": grid}) != run_id(config)
        assert train_id({**config, "epsilon": grid}) == train_id(config)


def test_weights_count_by_content(compose, tmp_path: Path) -> None:
    files = [tmp_path / name for name in ("a.pt", "b.pt", "c.pt")]
    for file, content in zip(files, (b"one", b"one", b"two"), strict=True):
        file.write_bytes(content)
    config = compose()
    first, second, third = (train_id({**config, "model": {**config["model"], "weights": str(f)}}) for f in files)
    assert first == second != third
    assert train_id(config) not in (first, third)


def test_the_group_ignores_the_seed_alone(compose) -> None:
    one, two = compose("seed=1"), compose("seed=2")
    assert ids.group_identity(one) == ids.group_identity(two) != ids.group_identity(compose("attack_seed=1"))
    assert run_id(one) != run_id(two)
    assert evaluate_run(one).folder == evaluate_run(two).folder
    assert evaluate_run(compose("seeds=[2,1]")).folder == evaluate_run(compose("seeds=[1,2]")).folder
    assert evaluate_run(compose("seeds=[2,1]")).folder != evaluate_run(compose("seeds=[1,2,3]")).folder


def test_folders_are_readable_and_carry_the_identity(compose) -> None:
    config = compose("defense=madry_l2", "defense.epsilon=0.3", "seed=4")
    model, attack = train_run(config), attack_run(config)
    assert model.folder.name == f"digits-mlp-madry_l2_0.3x7-s4-{train_id(config)}"
    assert attack.folder.name == f"digits-mlp-madry_l2_0.3x7-saliency-topk-s4-{run_id(config)}"
    assert (model.identity, attack.identity) == (train_id(config), run_id(config))
    assert all(len(cell.identity) == 12 and int(cell.identity, 16) >= 0 for cell in (model, attack))


@pytest.mark.parametrize(
    "name", ["../../../etc", "/etc/passwd", "a b\nc", "..", ".", "", "naïve-ü", "a" * 500, "x/../y", "\0"]
)
def test_names_cannot_leave_the_store(compose, name) -> None:
    config = compose()
    config["dataset"]["name"] = config["defense"]["name"] = name
    outputs = Path(config["outputs"])
    for cell, kind in (
        (train_run(config), "models"),
        (attack_run(config), "attacks"),
        (evaluate_run(config), "evaluations"),
    ):
        assert cell.folder.resolve().parent == (outputs / kind).resolve()
        assert len(cell.folder.name) < 250
        assert cell.folder.name.endswith(cell.identity)
        assert cell.folder.name.replace("-", "").replace("_", "").replace(".", "").isalnum()
        assert cell.folder.name.isascii()


def test_a_chunk_is_a_machine_setting_wherever_it_stands():
    part = {"name": "igr", "attribution": {"steps": 5, "chunk": 8}, "chunk": 4}
    other = {"name": "igr", "attribution": {"steps": 5, "chunk": 64}, "chunk": None}
    assert (
        ids.science({"defense": part}, "defense")
        == ids.science({"defense": other}, "defense")
        == {"attribution": {"steps": 5}}
    )


def test_the_name_of_an_option_inside_another_is_a_label_too(compose) -> None:
    config, labelled = compose("defense=composite"), compose("defense=composite")
    labelled["defense"]["base"]["name"] = "mine"
    assert train_id(labelled) == train_id(config)
    assert run_id(labelled) == run_id(config)


def test_a_key_that_was_added_later_counts_only_where_it_says_something_new(compose) -> None:
    """A stored run whose config has no such key is the run of today's default."""
    config = compose("attack=topk")
    for group, keys in ids.ADDED.items():
        for key, default in keys.items():
            if key not in config[group]:  # those of image folders
                assert default is None
                continue
            assert config[group][key] == default
            before = copy.deepcopy(config)
            del before[group][key]
            assert run_id(config) == run_id(before)
            assert key not in ids.attack_identity(config)[group]
            for value in (default + 1, float(default) + 0.5) if default is not None else (0.01,):
                assert run_id({**config, group: {**config[group], key: value}}) != run_id(config)
            same = default if default is None else float(default)
            assert run_id({**config, group: {**config[group], key: same}}) == run_id(config)
