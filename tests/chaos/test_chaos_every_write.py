"""A job that dies, is stopped or finds the disk full at any single access to its store goes on as if nothing had been."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from disturbed import same_numbers
from faulty import job

from runner.core.identity import Config
from runner.core.store import Folder
from runner.jobs.cells import attack_cell, evaluate_cell, train_cell
from runner.jobs.plan import Plan

SIZES = (
    "examples=4",
    "attack.chunk=2",
    "attack.steps=1",
    "epsilon.stop=0.2",
    "training.epochs=2",
    "metrics=[topk_intersection]",
)
EXIT = {"kill": (-9,), "term": (3, 0), "full": (1, 0), "torn": (1, 0)}
STRIDE = 9
"""The default tests take every ninth access, the slow ones all."""

Start = Callable[[Path], Config]
"""(outputs) -> the config of a job, in a store that is ready for it."""


@pytest.fixture(params=["anew", "again", "evaluation"])
def start(request: pytest.FixtureRequest, compose, tmp_path: Path) -> Start:
    """A training and an attack in an empty store; both made again; an evaluation of two seeds whose attacks are there."""
    kind: str = request.param
    config = compose(*SIZES, *(("job=evaluate", "seeds=[0,1]") if kind == "evaluation" else ()))
    ready = {**config, "outputs": str(tmp_path / "ready")}
    if kind == "again":
        assert job(ready)[0] == 0
    for seed in (0, 1) if kind == "evaluation" else ():
        attacked = {**ready, "seed": seed, "job": {"name": "attack", "_target_": "runner.jobs.attack.run"}}
        assert job(attacked)[0] == 0

    def begun(outputs: Path) -> Config:
        shutil.rmtree(outputs, ignore_errors=True)
        if kind != "anew":
            shutil.copytree(ready["outputs"], outputs)
        own = {**config, "outputs": str(outputs)}
        if kind == "again":
            own["rerun"] = Plan.of([({**own, "rerun": "all"}, [])]).replaced()
        return own

    return begun


def folders(config: Config) -> list[Path]:
    made = [evaluate_cell(config)] if config["job"]["name"] == "evaluate" else [train_cell(config), attack_cell(config)]
    return [cell.folder for cell in made]


def files(outputs: Path) -> list[str]:
    """All that lies in the runs' folders; of `.again`, only what has something in it."""
    kept = [path for kind in ("models", "attacks", "evaluations") for path in (outputs / kind).rglob("*")]
    return sorted(
        str(path.relative_to(outputs)) for path in kept if path.name != ".again" and ".locks" not in path.parts
    )


def endured(start: Start, tmp_path: Path, fault: str, stride: int) -> int:
    """Do the job with a fault at every `stride`-th access, and once more without. Returns how many accesses there are."""
    expected, outputs = start(tmp_path / "expected"), tmp_path / "disturbed"
    code, accesses = job(expected)
    assert code == 0
    wanted = files(tmp_path / "expected")
    for at in range(1, accesses + 1, stride):
        config = start(outputs)
        before = {path: Folder(path).finished() for path in folders(config)}
        code, _ = job(config, fault, at)
        assert code in EXIT[fault], f"{fault} at {at}"
        for path, other in zip(folders(config), folders(expected), strict=True):
            if Folder(path).finished():
                same_numbers(path, other)
            elif before[path] and not path.parent.joinpath(".again", path.name, "result.json").is_file():
                pytest.fail(f"{fault} at {at}: the old result is lost")
        failed = fault == "torn"  # an error of the device is recorded as a failure, which a plan leaves alone
        assert job({**config, "rerun": "all"} if failed else config)[0] == 0, f"{fault} at {at}"
        for path, other in zip(folders(config), folders(expected), strict=True):
            same_numbers(path, other)
            assert Folder(path).finished() != before[path], f"{fault} at {at}: not made again"
        assert files(outputs) == wanted, f"{fault} at {at}"
    return accesses


@pytest.mark.parametrize("fault", ["kill", "full"])
def test_some_accesses(start, tmp_path: Path, fault: str) -> None:
    assert endured(start, tmp_path, fault, STRIDE) > 2 * STRIDE


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("fault", ["kill", "term", "full", "torn"])
def test_every_access(start, tmp_path: Path, fault: str) -> None:
    assert endured(start, tmp_path, fault, 1) > 2 * STRIDE
