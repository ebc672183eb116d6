"""The plain sbatch script, with a SLURM that is only played; tests/slurm has the real one."""

import os
import subprocess
from pathlib import Path

import pytest
from composing import ROOT, composed

from runner.core.config import resolved
from runner.runs.run import Run

SCRIPT = ROOT / "conf" / "sweeps" / "array.sbatch"


@pytest.fixture
def run(tmp_path: Path):
    """(task, exit code of run.py, state of the job) -> exit code, what srun was given, what was requeued."""
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "srun").write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" >{tmp_path}/given\nexit "$CODE"\n')
    (folder / "squeue").write_text('#!/bin/sh\necho "$STATE"\n')
    (folder / "scontrol").write_text(f'#!/bin/sh\necho "$@" >>{tmp_path}/requeued\n')
    for path in folder.iterdir():
        path.chmod(0o755)

    def call(task: int, code: int = 0, state: str = "RUNNING") -> tuple[int, list[str], str]:
        ids = {"SLURM_ARRAY_JOB_ID": "12", "SLURM_ARRAY_TASK_ID": str(task), "SLURM_CPUS_PER_TASK": "2"}
        environment = {"PATH": f"{folder}:{os.environ['PATH']}", "CODE": str(code), "STATE": state, **ids}
        requeued = tmp_path / "requeued"
        requeued.unlink(missing_ok=True)
        done = subprocess.run(
            ["bash", SCRIPT, "job=attack", "a=b c"], env=environment, capture_output=True, check=False
        )
        given = (tmp_path / "given").read_text().splitlines()
        return done.returncode, given, requeued.read_text().strip() if requeued.is_file() else ""

    return call


def test_each_task_is_another_cell_and_trainings_are_the_first(run, tmp_path: Path) -> None:
    given = [run(task)[1] for task in range(24)]
    assert all(words[:3] == ["--kill-on-bad-exit=0", "python", "run.py"] for words in given)
    assert all(words[-2:] == ["job=attack", "a=b c"] for words in given)
    cells = [tuple(words[3:-2]) for words in given]
    assert len(set(cells)) == 24
    trainings = [cell[:-1] for cell in cells]
    assert len(set(trainings[:12])) == 12
    assert trainings[12:] == trainings[:12]
    assert cells[3] == ("seed=0", "defense=madry_l2", "defense.epsilon=0.3", "attribution=saliency")
    for cell in cells[:12:3]:
        Run.of(resolved(composed("job=train", *cell, f"outputs={tmp_path}", "tracking=none")))


@pytest.mark.parametrize(
    ("code", "state", "requeued"),
    [
        *((140, "RUNNING", "requeue 12_3"), (143, "RUNNING", "requeue 12_3"), (0, "RUNNING", ""), (1, "RUNNING", "")),
        *((143, "COMPLETING", ""), (140, "", "")),
    ],
)
def test_what_was_stopped_queues_again(run, code: int, state: str, requeued: str) -> None:
    told, _, asked = run(3, code, state)
    assert (told, asked) == (code, requeued)
