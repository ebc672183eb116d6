"""What a plan has settled is settled: a task that starts twice, or beside another sweep, does nothing again."""

from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
from running import as_job, attack_run, do, evaluate_run, plan_of, train_run

from runner.core.config import Config
from runner.core.errors import FailedEarlierError
from runner.jobs import attack, train
from runner.runs.identity import source_of
from runner.runs.run import Run
from runner.runs.run_job import run_job
from runner.store import replacement
from runner.store.folder import Folder
from runner.store.replacement import stamp
from runner.sweeps.plan import Task

SIZES = ("examples=4", "attack.steps=1", "epsilon.stop=0.2", "training.epochs=1", "metrics=[topk_intersection]")
RERUNS = ("failed", "all")


@pytest.fixture
def begun(monkeypatch: pytest.MonkeyPatch, no_reports: None) -> list[str]:
    """A word for each training and each attack that is begun; the training of seed 1 fails."""
    words, trained, searched = list[str](), train._train, attack._search

    def training(run: Run, *rest: Any) -> Any:
        words.append(f"train {run.config['seed']}")
        if run.config["seed"] == 1:
            raise ValueError("seed 1 is unlucky")
        return trained(run, *rest)

    def searching(setup: Any, *rest: Any) -> Any:
        words.append(f"{setup.config['attack']['name']} {setup.config['seed']}")
        return searched(setup, *rest)

    monkeypatch.setattr(train, "_train", training)
    monkeypatch.setattr(attack, "_search", searching)
    return words


def tasks(config: Config, rerun: Any = None) -> list[Task]:
    return list(plan_of({**config, "rerun": rerun}).tasks.values())


def test_a_task_that_starts_twice_makes_a_finished_run_again_once(compose, begun) -> None:
    config = compose(*SIZES)
    do(config)
    begun.clear()
    planned = tasks(config, "all")
    for task in (*planned, *planned):
        run_job(task.run)
    assert begun == ["train 0", "topk 0"]
    assert stamp(attack_run(config).folder) != planned[1].run.replaces[planned[1].run.identity]


def test_a_task_that_starts_twice_fails_once(compose, begun) -> None:
    (task, _) = tasks(compose(*SIZES, "seed=1"))
    with pytest.raises(ValueError, match="unlucky"):
        run_job(task.run)
    with pytest.raises(FailedEarlierError, match=r"^ValueError: seed 1 is unlucky$"):
        run_job(task.run)
    assert begun == ["train 1"]
    assert tasks(compose(*SIZES, "seed=1")) == []


def test_a_task_that_starts_twice_fails_once_to_make_a_finished_run_again(compose, begun, monkeypatch) -> None:
    config = compose(*SIZES)
    do(config)
    (_, task) = tasks(config, "all")
    monkeypatch.setattr(attack, "_search", lambda *args: begun.append("again") or {}["no luck"])
    for error in (KeyError, FailedEarlierError):
        with pytest.raises(error, match="no luck"):
            run_job(task.run)
    assert begun == ["train 0", "topk 0", "again"]
    for other in tasks({**as_job(config, "evaluate"), "seeds": [0]}):
        run_job(other.run)
    assert begun == ["train 0", "topk 0", "again"], "what needs it takes the old result"


@pytest.mark.parametrize("rerun", RERUNS)
def test_what_failed_is_tried_again_once_when_told_to(compose, begun, rerun: str) -> None:
    config = compose(*SIZES, "seed=1")
    (task, _) = tasks(config)
    with pytest.raises(ValueError, match="unlucky"):
        run_job(task.run)
    (again, _) = tasks(config, rerun)
    for error in (ValueError, FailedEarlierError):
        with pytest.raises(error, match="unlucky"):
            run_job(again.run)
    assert begun == ["train 1"] * 2


def test_the_evaluation_of_a_sweep_leaves_its_failed_seeds_alone(compose, begun) -> None:
    config = compose(*SIZES, "job=evaluate", "seeds=[0,1]")
    for task in tasks(config):
        unlucky = task.run.columns.get("seed") == 1
        if unlucky and task.run.job.name == "attack":
            continue  # as the launchers do: its input failed
        with pytest.raises(ValueError, match="unlucky") if unlucky else nullcontext():
            run_job(task.run)
    assert begun == ["train 0", "topk 0", "train 1"]
    result = Folder(evaluate_run(config).folder).finished()
    assert result is not None
    assert result["failed_seeds"] == {"1": "ValueError: seed 1 is unlucky"}


@pytest.mark.parametrize("rerun", [None, *RERUNS])
def test_an_evaluation_by_itself_tries_them_once(compose, begun, rerun: str | None) -> None:
    config = compose(*SIZES, "job=evaluate", "seeds=[0,1]")
    do(config)
    begun.clear()
    do({**config, "rerun": rerun})
    made = ["train 0", "topk 0", "train 1"] if rerun == "all" else ["train 1"]
    assert begun == made


def test_the_source_of_several_seeds_is_made_again_once(compose, begun) -> None:
    config = compose(
        *("job=evaluate", "attack=transfer_attribution", "seeds=[2,3]", "+attack.source.seed=0", *SIZES[2:]),
        *("attack.source.attack.steps=1", "examples=4"),
    )
    source = source_of({**config, "seed": 2})
    assert source is not None
    do(config)
    names = [config["attack"]["name"], source["attack"]["name"]]
    made = sorted([*(f"train {seed}" for seed in (0, 2, 3)), f"{names[1]} 0", f"{names[0]} 2", f"{names[0]} 3"])
    assert sorted(begun) == made
    begun.clear()
    do({**config, "rerun": "all"})
    assert sorted(begun) == made


def test_runs_are_made_again_by_their_identity_in_a_sweep_too(compose, begun) -> None:
    config = compose(*SIZES)
    do(config)
    begun.clear()
    model, attacked = train_run(config), attack_run(config)
    assert tasks(config, [model.identity]) == [], "an attack that stays needs no model"
    assert [task.run.folder for task in tasks(config, [attacked.identity])] == [attacked.folder]
    for task in tasks(config, [attacked.identity, model.identity]):
        run_job(task.run)
    assert begun == ["train 0", "topk 0"]


def test_a_second_sweep_takes_the_failure_that_it_waited_for(compose, begun, monkeypatch: pytest.MonkeyPatch) -> None:
    config = attack_run(compose(*SIZES, "seed=1")).inputs[0].config
    (first,), (second,) = tasks(config), tasks(config)
    finish, waited = replacement.finish_replacing, list[Path]()

    def meanwhile(path: Path) -> None:
        if not waited:
            waited.append(path)
            Folder(path).record("failed", {"error": "ValueError: seed 1 is unlucky"})
        finish(path)

    monkeypatch.setattr(replacement, "finish_replacing", meanwhile)
    with pytest.raises(FailedEarlierError, match="unlucky"):
        run_job(second.run)
    assert begun == []
    assert first.run.folder == second.run.folder == waited[0]
