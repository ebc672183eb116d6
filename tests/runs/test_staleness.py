"""Which cells an edit makes stale, and how they are made again; the attribution and the defense are a user's own modules."""

import json
import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from running import as_job, attack_run, do, plan_of, train_run

from runner.attacking.chunk import Chunk
from runner.core.config import Config
from runner.core.errors import ConfigError
from runner.jobs import attack
from runner.runs import module_hashes as modules
from runner.runs.run_job import run_job
from runner.store.folder import Folder
from runner.store.replacement import rerun_folder
from runner.sweeps.plan import Plan

OWN = {
    "ownparts/maps.py": "from ownparts.shared import GAIN\nfrom runner.attributions.saliency import Saliency\nMap = Saliency\n",
    "ownparts/other.py": "from runner.attributions.saliency import Saliency\nMap = Saliency\n",
    "ownparts/shared.py": "GAIN = 1\n",
    "ownparts/training.py": "from runner.defenses.natural import Natural\nPlain = Natural\n",
}
SIZES = ("examples=4", "attack.steps=1", "epsilon.stop=0.2", "training.epochs=1", "metrics=[topk_intersection]")
DEFENSE = "defense._target_=ownparts.training.Plain"
CHANGED = "changed: ownparts."


@pytest.fixture
def edit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str, str], None]]:
    """(module, text) adds a line to a module, and reads all of them anew as the next process would."""

    def forget() -> None:
        for known in (modules.hashes, modules._source, modules._is_own, modules._place):
            known.cache_clear()

    def call(name: str, text: str) -> None:
        with open(tmp_path / "ownparts" / f"{name}.py", "a") as file:
            file.write(text)
        forget()

    for name, text in OWN.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.syspath_prepend(str(tmp_path))
    forget()
    yield call
    forget()


@pytest.fixture
def configs(compose, edit) -> dict[str, Config]:
    """One attribution of the user's on two models, another on the first of them."""
    mine, other = (f"attribution._target_=ownparts.{name}.Map" for name in ("maps", "other"))
    return {
        "mine": compose(*SIZES, mine, "attribution.name=mine"),
        "other": compose(*SIZES, other, "attribution.name=other"),
        "own defense": compose(*SIZES, mine, "attribution.name=mine", DEFENSE, "defense.name=own"),
    }


@pytest.fixture
def done(configs) -> dict[str, Config]:
    for config in configs.values():
        do(config)
    return configs


def planned(configs: dict[str, Config], rerun: Any = None) -> Plan:
    return plan_of(*({**config, "rerun": rerun} for config in configs.values()))


def states(configs: dict[str, Config]) -> dict[str, str]:
    return dict(zip(configs, planned(configs).states(), strict=True))


def carry_out(plan: Plan) -> list[str]:
    """Do the tasks of a plan in order, and return the jobs."""
    for task in plan.tasks.values():
        run_job(task.run)
    return jobs_of(plan)


def jobs_of(plan: Plan) -> list[str]:
    return [task.run.job.name for task in plan.tasks.values()]


def test_an_edit_makes_exactly_the_cells_stale_that_depend_on_it(done, edit) -> None:
    assert set(states(done).values()) == {"done"}
    edit("shared", "# a remark\n")
    assert set(states(done).values()) == {"done"}
    edit("shared", "GAIN = 1\n")
    assert states(done) == {"mine": "stale", "other": "done", "own defense": "stale"}
    plan = planned(done)
    assert set(plan.stale.values()) == {f"{CHANGED}shared"}
    assert plan.tasks == {}
    assert planned(done, "failed").tasks == {}
    assert carry_out(planned(done, "stale")) == ["attack", "attack"]
    assert set(states(done).values()) == {"done"}
    edit("other", "x = 1\n")
    assert states(done) == {"mine": "done", "other": "stale", "own defense": "done"}


def test_a_stale_model_makes_its_attacks_stale(done, edit) -> None:
    edit("training", "x = 1\n")
    assert states(done) == {"mine": "done", "other": "done", "own defense": "stale"}
    assert list(planned(done).stale.values()) == [f"{CHANGED}training"]
    plan = planned(done, "stale")
    assert jobs_of(plan) == ["train", "attack"]
    model, attacked = plan.tasks.values()
    assert attacked.needs == [model.run.folder]
    run_job(model.run)
    assert planned(done).stale == {attacked.run.folder: "its model was rerun with other code"}
    assert carry_out(planned(done, "stale")) == ["attack"]
    assert set(states(done).values()) == {"done"}


def test_a_new_attack_on_a_stale_model_is_stale(configs, edit) -> None:
    config = configs["own defense"]
    do(as_job(config, "train"))
    edit("training", "x = 1\n")
    plan = planned({"own": config})
    assert jobs_of(plan) == ["attack"]
    carry_out(plan)
    assert states({"own": config}) == {"own": "stale"}


def test_all_are_made_again_once_each_with_their_models(done) -> None:
    before = {path: path.stat().st_mtime_ns for path in Path(done["mine"]["outputs"]).glob("*/*/result.json")}
    plan = planned(done, "all")
    assert plan.states() == ["done"] * 3
    assert carry_out(plan) == ["train", "attack", "attack", "train", "attack"]
    assert len(before) == 5
    assert all(path.stat().st_mtime_ns > stamp for path, stamp in before.items())
    assert set(states(done).values()) == {"done"}, "the same code: an attack on the old model is one on the new"


def test_a_result_without_a_fingerprint_is_done_and_told_of(done, edit) -> None:
    for config in (done["mine"], done["own defense"]):
        file = attack_run(config).folder / "result.json"
        file.write_text(json.dumps({k: v for k, v in json.loads(file.read_text()).items() if k != "fingerprint"}))
    edit("shared", "x = 1\n")
    plan = planned(done)
    assert plan.states() == ["done"] * 3
    assert plan.unknown == {attack_run(done["mine"]).folder, attack_run(done["own defense"]).folder}
    edit("training", "x = 1\n")
    assert states(done)["own defense"] == "stale", "its model is"


def failing(*args: Any) -> None:
    raise ValueError("no luck")


def test_the_old_result_stays_while_the_new_one_is_made_and_when_that_fails(done, edit, monkeypatch) -> None:
    config, seen = done["other"], list[dict[str, Any] | None]()
    cell = attack_run(config)
    old = Folder(cell.folder).finished()
    edit("other", "x = 1\n")
    (task,) = planned(done, "stale").tasks.values()
    with monkeypatch.context() as patch:
        patch.setattr(attack, "_search", lambda *args: seen.append(Folder(cell.folder).finished()) or failing())
        with pytest.raises(ValueError, match="no luck"):
            run_job(task.run)
    assert seen == [old]
    assert Folder(cell.folder).finished() == old
    plan = planned(done)
    assert plan.states() == ["done", "failed", "done"]
    assert plan.failed == {cell.folder: "ValueError: no luck"}
    assert plan.tasks == {}
    assert carry_out(planned(done, "failed")) == ["attack"]
    assert set(states(done).values()) == {"done"}
    assert not rerun_folder(cell.folder).path.exists()


def test_what_was_begun_by_other_code_is_not_resumed(configs, edit, monkeypatch, caplog) -> None:
    config, begun = configs["mine"], list[int]()
    step = Chunk.step

    def stopping(self: Chunk, epsilon: float) -> None:
        begun.append(len(self.steps))
        if len(begun) == 3:  # the second budget of the first of two chunks: examples=6 in chunks of 4
            raise KeyboardInterrupt
        step(self, epsilon)

    config = {**config, "examples": 6}
    monkeypatch.setattr(Chunk, "step", stopping)
    with pytest.raises(KeyboardInterrupt):
        do(config)
    do(config)
    assert begun == [0, 0, 1, 1, 1]
    again = {**config, "rerun": [attack_run(config).identity]}
    begun.clear()
    with pytest.raises(KeyboardInterrupt):
        do(again)
    edit("maps", "x = 1\n")
    with caplog.at_level(logging.WARNING):
        do(again)
    assert begun == [0, 0, 1, 0, 0, 1, 1]
    assert "starts from the beginning" in caplog.text
    assert len(pd.read_parquet(attack_run(config).folder / "rows.parquet")) == 12


def test_a_finished_new_run_that_is_not_in_place_yet_is_taken(done, monkeypatch) -> None:
    config = done["mine"]
    cell = attack_run(config)
    again = {**config, "rerun": [cell.identity]}
    with monkeypatch.context() as patch:
        patch.setattr("runner.store.replacement.replace", lambda path: None)
        do(again)
    whole = rerun_folder(cell.folder).finished()
    assert whole is not None
    monkeypatch.setattr(attack, "_search", failing)
    assert do(again) == whole
    assert Folder(cell.folder).finished() == whole


def test_a_job_by_itself(done, edit) -> None:
    config = done["own defense"]
    files = [cell.folder / "result.json" for cell in (train_run(config), attack_run(config))]

    def made_by(rerun: str) -> list[bool]:
        before = [file.stat().st_mtime_ns for file in files]
        do({**config, "rerun": rerun})
        return [file.stat().st_mtime_ns > stamp for file, stamp in zip(files, before, strict=True)]

    assert made_by("stale") == [False, False]
    edit("maps", "x = 1\n")
    assert made_by("failed") == [False, False]
    assert made_by("stale") == [False, True]
    assert made_by("all") == [True, True]


def test_failures_are_tried_again_when_told_to(configs, monkeypatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("runner.jobs.train._train", failing)
        for config in (configs["mine"], configs["own defense"]):
            with pytest.raises(ValueError, match="no luck"):
                do(as_job(config, "train"))
    model, own = (train_run(configs[name]).folder for name in ("mine", "own defense"))
    plan = planned(configs)
    assert plan.states() == ["failed"] * 3
    assert plan.tasks == {}
    blocked = f"its input failed: {model.name}"
    assert plan.failed[model] == "ValueError: no luck"
    assert plan.failed[attack_run(configs["other"]).folder] == blocked
    assert plan.left_alone() == plan.failed
    assert carry_out(planned(configs, "failed")) == ["train", "attack", "attack", "train", "attack"]
    assert own.is_dir()
    assert set(states(configs).values()) == {"done"}


@pytest.mark.parametrize("rerun", ["oops", "", 3, True, [1], {"a": 1}])
def test_what_cannot_be_made_again(compose, rerun: Any) -> None:
    with pytest.raises(ConfigError, match=r"^rerun=.*: allowed are a list of identities, all, failed, null, stale"):
        do({**compose(), "rerun": rerun})
