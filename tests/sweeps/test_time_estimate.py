"""How long a dry run says that the rest of a sweep will take: from finished runs, and from the saved work of interrupted ones."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from fake_runs import FakeRun
from running import as_job, attack_run, do, plan_of, train_run

from runner.attacking.chunk import Chunk
from runner.core.config import Config
from runner.runs.effort import saved_effort
from runner.store.files import write_json
from runner.store.folder import Folder
from runner.store.replacement import rerun_folder
from runner.sweeps import summary
from runner.sweeps.time_estimate import seconds_of
from runner.training.trainer import Trainer

EPOCH, SEARCH = 10.0, 7.0
"""Seconds of an epoch, and of a step of an attack above epsilon 0."""


def run(folder: Path, job: str, **columns: Any) -> Any:
    return FakeRun(job, folder, {"defense": "none", "model": "mlp", "dataset": "digits", **columns})


STATED = {"test_accuracy": 0.5, "seed": 0, "metrics": {}, "examples": 1}
"""What every result states besides its columns."""


def record(run: Any, status: str = "ok", **content: Any) -> None:
    Folder(run.folder).record(status, {**STATED, "job": run.job.name, **run.columns, **content})


def begin(run: Any, seconds: float, share: float, folder: Path | None = None) -> None:
    write_json((folder or run.folder) / "scratch" / "effort.json", {**run.columns, "seconds": seconds, "share": share})


def test_the_time_of_what_is_most_alike(tmp_path: Path) -> None:
    def train(name: str, **columns: Any) -> Any:
        return run(tmp_path / "models" / name, "train", **columns)

    def attack(name: str, **columns: Any) -> Any:
        return run(tmp_path / "attacks" / name, "attack", **{"attribution": "saliency", "attack": "topk", **columns})

    assert seconds_of([]) == []
    assert seconds_of([train("new")]) == [None]
    for number, (seconds, columns) in enumerate(
        [(10.0, {}), (30.0, {}), (100.0, {"defense": "ssr"}), (500.0, {"defense": "ssr", "model": "cnn"})]
    ):
        record(train(f"done{number}", **columns), seconds=seconds)
    record(train("torn", defense="art"), "failed", error="no", seconds=1e6)
    assert seconds_of([train("a")]) == [20]
    assert seconds_of([train("a", defense="ssr")]) == [100]
    assert seconds_of([train("a", defense="ssr", model="cnn", dataset="svhn")]) == [500]
    assert seconds_of([train("a", defense="ssr", model="resnet")]) == [300]
    assert seconds_of([train("a", defense="art"), train("b")]) == [160, 20]
    assert seconds_of([train("a"), attack("b")]) == [20, None]
    record(attack("done", defense="ssr"), seconds=7.0)
    record(attack("other", attack="manipulate"), seconds=9.0)
    assert seconds_of([attack("b"), attack("c", attack="manipulate"), attack("d", attribution="occlusion")]) == [
        7,
        9,
        8,
    ]


def test_saved_work_is_not_paid_twice_and_tells_the_speed_of_others(tmp_path: Path) -> None:
    begun, rerun, new, other = (run(tmp_path / "models" / name, "train") for name in ("a", "b", "c", "d"))
    begin(begun, 30.0, 0.375)
    assert seconds_of([begun, new]) == [50, 80], "5 of 8 epochs are left"
    record(rerun, seconds=100.0)
    assert seconds_of([begun, rerun, new]) == [50, 90, 90], "the mean of a finished and a begun run"
    begin(rerun, 45.0, 0.5, rerun_folder(rerun.folder).path)
    assert seconds_of([begun, rerun, new]) == [50, 45, 90]
    begin(other, 5.0, 0.0)
    assert seconds_of([other]) == [90], "no step is done yet"
    write_json(begun.folder / "scratch" / "code.json", {"runner.training.trainer": "as it was before an edit"})
    assert seconds_of([begun]) == [90], "the saved state will not be used, but its speed counts"


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """Time in which epochs and searches take `EPOCH` and `SEARCH`, and all else nothing; what comes after `left` is killed."""
    told = SimpleNamespace(now=0.0, left=10**6, perf_counter=lambda: told.now)

    def slow(owner: type, method: str, seconds: float) -> None:
        real = getattr(owner, method)

        def timed(self: Any, number: float) -> Any:
            if owner is Chunk and number == 0:
                return real(self, number)
            if told.left == 0:
                raise KeyboardInterrupt
            told.left, told.now = told.left - 1, told.now + seconds
            return real(self, number)

        monkeypatch.setattr(owner, method, timed)

    slow(Trainer, "epoch", EPOCH)
    slow(Chunk, "step", SEARCH)
    monkeypatch.setattr("runner.runs.effort.time", told)
    return told


def killed(clock: SimpleNamespace, config: Config, after: int) -> None:
    clock.left = after
    with pytest.raises(KeyboardInterrupt):
        do(config)
    clock.left = 10**6


def shown(capsys: pytest.CaptureFixture[str], *configs: Config) -> str:
    summary.print_plan(plan_of(*configs), 1)
    return capsys.readouterr().out.splitlines()[-1]


def test_a_sweep_that_is_killed_twice(compose, clock, capsys) -> None:
    both = [compose("training.epochs=8", f"seed={seed}") for seed in (0, 1)]
    assert "4 runs to do, inputs included: time unknown" in shown(capsys, *both)
    killed(clock, both[0], 3)
    work = saved_effort(Folder(train_run(both[0]).folder))
    assert (work.seconds, work.share) == (3 * EPOCH, 3 / 8)
    assert shown(capsys, *both) == (
        "4 runs to do, inputs included: about 2 min in 1 processes, 2 min in one; "
        "the time of 2 attack runs is unknown; 1 begun, with 30 s of work saved"
    ), "5 epochs of one training and 8 of the other"
    killed(clock, both[0], 5 + 4)  # the other epochs, and 2 of 3 searches on each of two chunks, of 4 and 2 examples
    work = saved_effort(Folder(attack_run(both[0]).folder))
    assert (work.seconds, work.share) == (4 * SEARCH, 2 * (4 + 2) / (3 * 6))
    plan = plan_of(*both)
    assert seconds_of(task.run for task in plan.tasks.values()) == pytest.approx([14.0, 80.0, 42.0])
    assert Folder(train_run(both[0]).folder).finished()["seconds"] == 8 * EPOCH, "in two calls"
    do(both[0])
    assert Folder(attack_run(both[0]).folder).finished()["seconds"] == 6 * SEARCH, "in two calls, without its training"
    assert shown(capsys, *both) == "2 runs to do, inputs included: about 2 min in 1 processes, 2 min in one"
    assert seconds_of([attack_run(both[1]), train_run(both[1])]) == [6 * SEARCH, 8 * EPOCH]


def test_the_batches_of_an_unfinished_epoch_count(compose, clock, monkeypatch) -> None:
    config = as_job(compose("training.epochs=2", "training.batch_size=50"), "train")
    monkeypatch.setattr("runner.core.signals._received", [])
    taken, real = list[int](), Trainer._steps

    def stopping(self: Trainer, batch: Any) -> Any:
        taken.append(1)
        if len(taken) == 6:
            monkeypatch.setattr("runner.core.signals._received", [15])
        return real(self, batch)

    monkeypatch.setattr(Trainer, "_steps", stopping)
    with pytest.raises(BaseException, match="stopped by SIGTERM"):
        do(config)
    work = saved_effort(Folder(train_run(config).folder))
    assert (work.seconds, work.share) == (2 * EPOCH, 6 / 8), "2 of 4 batches of the second epoch"
