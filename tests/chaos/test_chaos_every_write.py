"""A job that dies, is stopped or finds the disk full at any single access to its store goes on as if nothing had been."""

import os
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from faulty import job
from running import as_job, run_of
from share import SHARE
from whole import same_numbers

from runner.runs.run import Run
from runner.store.folder import Folder

SIZES = (
    "examples=4",
    "attack.chunk=2",
    "attack.steps=1",
    "epsilon.stop=0.2",
    "training.epochs=2",
    "metrics=[topk_intersection]",
)
EXIT = {"kill": (-9,), "term": (3, 0), "full": (1, 0), "torn": (1, 0)}
STRIDE = int(os.environ.get("CHAOS_STRIDE", "4"))
"""Every fourth access is taken, each fault beginning at another one; 1 takes all."""

Start = Callable[[Path], Run]
"""(outputs) -> a run, in a store that is ready for it."""


@pytest.fixture(params=["anew", "again", "evaluation"])
def start(request: pytest.FixtureRequest, compose, tmp_path: Path) -> Start:
    """A training and an attack in an empty store; both made again; an evaluation of two seeds whose attacks are there."""
    kind: str = request.param
    config = compose(*SIZES, *(("job=evaluate", "seeds=[0,1]") if kind == "evaluation" else ()))
    ready = {**config, "outputs": str(tmp_path / "ready")}
    if kind == "again":
        assert job(run_of(ready))[0] == 0
    for seed in (0, 1) if kind == "evaluation" else ():
        assert job(run_of(as_job({**ready, "seed": seed}, "attack")))[0] == 0

    def begun(outputs: Path) -> Run:
        shutil.rmtree(outputs, ignore_errors=True)
        if kind != "anew":
            shutil.copytree(ready["outputs"], outputs)
        return run_of({**config, "outputs": str(outputs), "rerun": "all" if kind == "again" else None})

    return begun


def folders(run: Run) -> list[Path]:
    """Those of what the run makes: itself, and an attack's training."""
    made = [run] if run.job.name == "evaluate" else [*run.inputs, run]
    return [each.folder for each in made]


def files(outputs: Path) -> list[str]:
    """All that lies in the runs' folders; of `.again`, only what has something in it."""
    kept = [path for kind in ("models", "attacks", "evaluations") for path in (outputs / kind).rglob("*")]
    return sorted(
        str(path.relative_to(outputs)) for path in kept if path.name != ".again" and ".locks" not in path.parts
    )


def disturbed(start: Start, outputs: Path, fault: str, at: int, expected: Run) -> None:
    """Do the job with a fault at an access, and once more without: nothing is lost, and at the end nothing shows."""
    run = start(outputs)
    before = {path: Folder(path).finished() for path in folders(run)}
    code, _ = job(run, fault, at)
    assert code in EXIT[fault], f"exit code {code}"
    for path, other in zip(folders(run), folders(expected), strict=True):
        place = path if Folder(path).finished() or not before[path] else path.parent / ".again" / path.name
        if before[path] or Folder(place).finished():
            same_numbers(place, other)
    failed = fault == "torn"  # an error of the device is recorded as a failure, which a plan leaves alone
    code, _ = job(run_of({**run.config, "rerun": "all"}) if failed else run)
    assert code == 0
    for path, other in zip(folders(run), folders(expected), strict=True):
        same_numbers(path, other)
        assert Folder(path).finished() != before[path], "it was not made again"
    assert files(outputs) == files(expected.outputs)
    shutil.rmtree(outputs)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("fault", EXIT)
def test_a_fault_at_an_access(start: Start, tmp_path: Path, fault: str) -> None:
    expected = start(tmp_path / "expected")
    code, accesses = job(expected)
    assert code == 0
    assert accesses > 50
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        part, parts = SHARE
        chosen = range(1 + list(EXIT).index(fault) % STRIDE, accesses + 1, STRIDE)[part - 1 :: parts]
        running = {at: pool.submit(disturbed, start, tmp_path / f"at-{at}", fault, at, expected) for at in chosen}
    wrong = {f"{fault} at {at}": str(error) for at, one in running.items() if (error := one.exception()) is not None}
    assert wrong == {}
