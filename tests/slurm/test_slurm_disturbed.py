"""Sweeps on a real SLURM that are disturbed: nothing is lost, and nothing is computed twice but the step that a kill cut off."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from composing import ROOT
from running import attack_run
from small_cluster import CELL, Cluster, Sweep, until

pytestmark = [pytest.mark.slurm, pytest.mark.timeout(900)]
LONG = ("attack.pause=1.5", "epsilon.stop=0.4", "epsilon.step=0.1")
"""Two chunks at four budgets above 0: 12 seconds."""


def under_way(made: Sweep, steps: int) -> subprocess.Popen[bytes]:
    """A sweep begun, whose tasks have finished so many searches."""
    process = made.begin()

    def far() -> bool:
        assert process.poll() is None, made.log
        return len(made.steps) >= steps

    until(far, f"{steps} steps")
    return process


def starts(cluster: Cluster, job: str) -> list[str]:
    """How each start of a task ended."""
    history = cluster.history()
    return history[history.job == job].state.tolist()


def test_preempted_by_a_partition_of_higher_priority(sweep, monkeypatch) -> None:
    made = sweep(1, 3, *LONG, "tracking=wandb_offline", "tracking.dir=tracked")
    process = under_way(made, 3)
    tasks = made.jobs
    assert len(tasks) == 3
    block = made.cluster.blocked()
    begun = len(made.steps)
    assert begun < 3 * 8
    made.cluster.call("scancel", block)
    assert made.end(process) == 0, made.log
    assert [starts(made.cluster, task) for task in tasks] == [["REQUEUED", "COMPLETED"]] * 3
    monkeypatch.setenv("WANDB_MODE", "disabled")
    for config in made.configs:
        identity = attack_run(config).identity
        runs = {path.name.split("-", 3)[-1] for path in made.folder.glob(f"tracked/wandb/offline-run-*{identity}")}
        assert runs == {f"attack-{identity}"}
        assert len(list(made.folder.glob(f"tracked/wandb/offline-run-*{identity}"))) == 2
    made.configs = [{**config, "tracking": {**config["tracking"], "mode": "disabled"}} for config in made.configs]
    made.check(monkeypatch)


@pytest.fixture
def terse(free: Cluster) -> Iterator[None]:
    """A site that preempts with SIGTERM alone, as most do."""
    file = free.root / "slurm.conf"
    text = file.read_text()
    file.write_text(text.replace("SlurmctldParameters=preempt_send_user_signal\n", ""))
    free.call("scontrol", "reconfigure")
    yield
    file.write_text(text)
    free.call("scontrol", "reconfigure")


@pytest.mark.usefixtures("terse")
def test_preempted_with_sigterm_alone(sweep, monkeypatch) -> None:
    made = sweep(1, 2, *LONG)
    process = under_way(made, 2)
    tasks = made.jobs
    made.cluster.call("scancel", made.cluster.blocked())
    assert made.end(process) == 0, made.log
    assert [starts(made.cluster, task) for task in tasks] == [["REQUEUED", "COMPLETED"]] * 2
    said = "".join(path.read_text() for path in made.folder.glob("outputs/sweeps/tiny/slurm/*/*_log.out"))
    assert said.count("stopped by SIGTERM, the state is saved") == 2
    assert "stopped by SIGUSR2" not in said
    made.check(monkeypatch)


def test_requeued_cancelled_and_tried_again(sweep, monkeypatch) -> None:
    made = sweep(1, 3, *LONG)
    process = under_way(made, 3)
    requeued, cancelled, alone = made.jobs
    made.cluster.call("scontrol", "requeue", requeued)
    made.cluster.call("scancel", cancelled)
    assert made.end(process) == 1
    assert starts(made.cluster, requeued) == ["REQUEUED", "COMPLETED"]
    assert starts(made.cluster, cancelled) == ["CANCELLED"]
    assert starts(made.cluster, alone) == ["COMPLETED"]
    assert f"its SLURM job {cancelled} ended as CANCELLED" in made.log
    assert "error: 1 of 4 runs failed; to rerun them: " in made.log
    assert made.end(made.begin()) == 0, made.log
    assert "3 cells, 1 runs to do" in made.log
    made.check(monkeypatch)


@pytest.fixture
def mortal(free: Cluster) -> Iterator[str]:
    """A node that a test may kill."""
    yield "n2"
    free.node("n2")  # a node that was down is in service again once it registers
    until(lambda: free.call("sinfo", "-h", "-n", "n2", "-o", "%T", "-p", "main").strip() == "idle", "n2 is back")


def test_a_node_dies(mortal: str, sweep, monkeypatch) -> None:
    made = sweep(1, 3, *LONG)
    process = under_way(made, 3)
    cluster = made.cluster
    (victim,) = cluster.jobs("-w", mortal, "-t", "running")
    stepd = [pid for pid in cluster.processes() if _is_step_of(pid, cluster.root / "log" / f"slurmd.{mortal}.log")]
    assert len(stepd) == 2
    for pid in [cluster.pid(f"slurmd.{mortal}"), *stepd, *cluster.processes(f"SLURMD_NODENAME={mortal}")]:
        _kill(pid)
    cluster.call("scontrol", "update", f"nodename={mortal}", "state=down", "reason=died")
    until(lambda: victim not in cluster.jobs("-w", mortal), "the job has left the node")
    assert made.end(process) == 0, made.log
    assert starts(cluster, victim)[0] in ("NODE_FAIL", "REQUEUED")
    assert starts(cluster, victim)[-1] == "COMPLETED"
    made.check(monkeypatch, twice=1)


def test_the_controller_is_killed_and_started_again(sweep, monkeypatch) -> None:
    made = sweep(1, 3, *LONG)
    process = under_way(made, 2)
    _kill(made.cluster.pid("slurmctld"))
    until(lambda: made.log.count("squeue: ") >= 1, "the sweep has noticed")
    made.cluster.controller()
    assert made.end(process) == 0, made.log
    made.check(monkeypatch)


def test_a_task_is_started_twice(sweep, monkeypatch) -> None:
    made = sweep(1, 1, "attack.pause=4", *LONG[1:])
    process = under_way(made, 1)
    job = made.cluster.jobs("-n", "tiny")[0]
    folder = made.folder / "outputs" / "sweeps" / "tiny" / "slurm" / "%j"
    text = (made.folder / "outputs" / "sweeps" / "tiny" / "slurm" / job / f"{job}_submission.sh").read_text()
    lines = [line for line in text.splitlines() if line.startswith("export ")]
    command = text.splitlines()[-1].split(" ", 4)[-1]  # without `srun --unbuffered --output FILE`
    assert command.endswith(f"-m submitit.core._submit {folder}")
    script = made.folder / "again.sh"
    own = f"export SLURM_JOB_ID={job}"
    script.write_text(
        "\n".join(["#!/bin/bash", f"#SBATCH --output={made.folder}/again.log", *lines, own, f"exec {command}"])
    )
    environment = made.cluster.environment(COUNTED=str(made.folder / "counted"))
    told = subprocess.run(["sbatch", "--parsable", script], env=environment, capture_output=True, text=True, check=True)
    again = told.stdout.strip()
    said = made.folder / "again.log"
    until(lambda: said.is_file() and "waiting for another process" in said.read_text(), "the second start waits")
    assert made.end(process) == 0, made.log
    until(lambda: again not in made.cluster.jobs(), "the second start has ended")
    assert starts(made.cluster, again) == ["COMPLETED"]
    made.check(monkeypatch)


def test_a_time_limit(sweep, monkeypatch) -> None:
    """SLURM looks at limits every 30 seconds: the warning comes 30 to 60 seconds after the start, the work takes 64."""
    limits = ("hydra.launcher.timeout_min=2", "hydra.launcher.signal_delay_s=60")
    made = sweep(1, 1, *LONG[1:], "attack.pause=8", *limits)
    process = under_way(made, 1)
    (task,) = (job for job in made.cluster.jobs("-n", "tiny"))
    assert made.end(process) == 0, made.log
    assert "REQUEUED" in starts(made.cluster, task)
    assert starts(made.cluster, task)[-1] == "COMPLETED"
    made.check(monkeypatch)


def test_the_plain_script_for_sites_without_submitit(sweep, monkeypatch) -> None:
    made = sweep(2, 1, *LONG)
    overrides = [*(text for text in CELL if text != "job=attack"), *LONG, f"outputs={made.folder}/outputs"]
    environment = made.cluster.environment(
        COUNTED=str(made.folder / "counted"), PYTHON=sys.executable, RUN_PY=str(ROOT / "run.py")
    )

    def submit(*options: str, job: str) -> str:
        sizes = ("--parsable", "--array=0-1", "--cpus-per-task=1", "--mem=1G")
        command = ["sbatch", *sizes, *options, str(ROOT / "conf" / "sweeps" / "array.sbatch"), f"job={job}", *overrides]
        told = subprocess.run(command, env=environment, cwd=made.folder, capture_output=True, text=True, check=True)
        return told.stdout.strip()

    train = submit(job="train")
    attack = submit(f"--dependency=afterany:{train}", job="attack")
    until(lambda: len(made.steps) >= 2, "two steps")
    for job in made.cluster.jobs():
        made.cluster.call("scancel", "--signal=USR2", job)
    until(lambda: not made.cluster.jobs(), "both arrays have ended")
    assert [starts(made.cluster, f"{train}_{task}") for task in (0, 1)] == [["COMPLETED"]] * 2
    assert [starts(made.cluster, f"{attack}_{task}") for task in (0, 1)] == [["REQUEUED", "COMPLETED"]] * 2
    made.check(monkeypatch)


def _is_step_of(pid: int, log: Path) -> bool:
    """Whether this is the keeper of a step, which has its node's log open."""
    if Path(f"/proc/{pid}/comm").read_text().strip() != "slurmstepd":
        return False
    return any(link.resolve() == log for link in Path(f"/proc/{pid}/fd").iterdir())


def _kill(pid: int) -> None:
    with suppress(ProcessLookupError):  # it may have ended with another
        os.kill(pid, signal.SIGKILL)
