"""What becomes of a sweep's tasks when workers die or fail; no model is trained here."""

import json
from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

import light_work
import pytest
from fake_runs import FakeRun

from runner.sweeps.local import workers
from runner.sweeps.plan import Plan, Task


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """(processes, **tasks) -> failures by name, and how often each was begun."""
    monkeypatch.setattr(workers, "_work", light_work.work)
    monkeypatch.setattr(workers, "_begin_worker", light_work.begin)
    log = tmp_path / "log"
    log.touch()

    def call(processes: int, **tasks: dict) -> tuple[dict[str, str], list[str]]:
        def folder(name: str) -> Path:
            return tmp_path / name

        plan = Plan([])
        for name, task in tasks.items():
            needs = [folder(needed) for needed in task.pop("needs", [])]
            run = FakeRun(task.pop("job", "attack"), folder(name), config={"log": str(log), **task})
            plan.tasks[folder(name)] = Task(run, needs)  # type: ignore[arg-type]
        failures = workers.run_local(plan, processes)
        return {path.name: reason for path, reason in failures.items()}, log.read_text().split()

    return call


def test_inputs_come_first_and_each_task_once(run) -> None:
    failures, begun = run(2, b={"needs": ["a"]}, a={}, c={"needs": ["b"]}, d={})
    assert failures == {}
    assert sorted(begun) == ["a", "b", "c", "d"]
    assert begun.index("a") < begun.index("b") < begun.index("c")


def test_a_failure_takes_along_what_needs_it_and_nothing_else(run) -> None:
    tasks = {"bad": {"error": "ValueError: no"}, "child": {"needs": ["bad"]}, "grandchild": {"needs": ["child"]}}
    tasks |= {"good": {}, "evaluation": {"needs": ["bad", "good"], "job": "evaluate"}}
    failures, begun = run(2, **tasks)
    assert failures == {
        "bad": "ValueError: no",
        "child": "its input failed: bad",
        "grandchild": "its input failed: child",
    }
    assert sorted(begun) == ["bad", "evaluation", "good"]


def test_a_killed_worker_is_tried_once_more(run) -> None:
    failures, begun = run(2, fine={}, unlucky={"deaths": 1}, after={"needs": ["unlucky"]})
    assert failures == {}
    assert begun.count("unlucky") == 2
    assert begun.count("after") == 1


@pytest.mark.timeout(60)
def test_a_worker_that_forgets_that_it_was_told_to_stop_is_told_again(run) -> None:
    deaf = {"deaf": True, "seconds": 1.5, "beside": "brief"}
    failures, begun = run(2, deaf=deaf, brief={"dies_idle": 0.5, "beside": "deaf"})
    assert failures == {}, "though who dies while it waits for a task keeps the lock of the queue"
    assert sorted(begun) == ["brief", "deaf", "deaf"]


def test_what_kills_its_worker_twice_fails_alone(run, tmp_path: Path) -> None:
    good = {f"good{number}": {"seconds": 1.0 if number == 0 else 0} for number in range(6)}
    tasks = {"deadly": {"deaths": 9, "beside": "good0"}, **good, "other": {"deaths": 9}}
    failures, begun = run(2, **tasks)
    reason = "its process died (out of memory, or killed)"
    assert failures == {"deadly": reason, "other": reason}
    assert begun.count("deadly") == begun.count("other") == 2
    results = {path.parent.name: json.loads(path.read_text()) for path in tmp_path.glob("*/result.json")}
    assert {name: (result["status"], result["error"]) for name, result in results.items()} == dict.fromkeys(
        ("deadly", "other"), ("failed", reason)
    ), "what needs them must not try them once more"
    assert set(good) <= set(begun)


class FakePool:
    """Takes tasks, and after `whole` of them is broken."""

    def __init__(self, whole: int = 99) -> None:
        self.whole, self.taken = whole, list[str]()

    def submit(self, work: object, run: FakeRun) -> Future:
        if len(self.taken) == self.whole:
            raise BrokenProcessPool
        self.taken.append(run.folder.name)
        return Future()


def waiting_tasks(**tries: int) -> dict[Path, Task]:
    return {
        Path(name): Task(FakeRun("attack", Path(name)), [], number)  # type: ignore[arg-type]
        for name, number in tries.items()
    }


def test_no_more_is_submitted_than_can_run_and_suspects_run_alone() -> None:
    pool, running = FakePool(), {}
    assert workers._submit_ready(pool, 2, waiting_tasks(a=0, b=0, c=0), running)  # type: ignore[arg-type]
    assert workers._submit_ready(pool, 2, waiting_tasks(a=0, b=0, c=0), running)  # type: ignore[arg-type]
    assert pool.taken == ["a", "b"]
    assert list(running.values()) == [Path("a"), Path("b")]
    pool = FakePool()
    assert workers._submit_ready(pool, 3, waiting_tasks(a=0, b=1, c=1, d=0), {})  # type: ignore[arg-type]
    assert pool.taken == ["b"]


def test_a_pool_that_breaks_while_tasks_are_submitted() -> None:
    pool, running = FakePool(whole=1), {}
    assert not workers._submit_ready(pool, 3, waiting_tasks(a=0, b=0), running)  # type: ignore[arg-type]
    assert list(running.values()) == [Path("a")]


def test_nothing_to_do(run) -> None:
    assert run(2) == ({}, [])
