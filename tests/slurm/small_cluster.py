"""What the tests do to a SLURM on this machine, and the sweeps of tiny cells that they run on it."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any

import counting
import pandas as pd
import pytest
from composing import ROOT, composed
from running import attack_run, do, train_run

from runner.core.config import Config, resolved
from runner.jobs import attack
from runner.store.folder import Folder

HERE = Path(__file__).resolve().parent
TESTS = HERE.parent
PATIENCE = 180.0
"""Seconds until a test gives up on something that takes a few; the machine may have much else to do."""

CELL = (
    *("job=attack", "attack=topk", "dataset=digits", "model=mlp", "model.widths=[16]", "tracking=none", "threads=1"),
    *("dataset.train_size=200", "dataset.test_size=60", "training.epochs=1", "metrics=[topk_intersection]"),
    *("examples=4", "attack=counted", "attack.chunk=2", "epsilon.stop=0.4", "epsilon.step=0.2", "sweep=tiny"),
    f"hydra.searchpath=[file://{TESTS / 'counting_conf'}]",
)
LAUNCHER = ("hydra/launcher=slurm", "hydra.launcher.mem_gb=1", "hydra.launcher.cpus_per_task=1")


def until(condition: Callable[[], object], what: str) -> None:
    """Wait for a condition. Errors: `AssertionError` when it does not come true."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, f"waited in vain: {what}"
        time.sleep(0.3)


@dataclass(frozen=True)
class Cluster:
    """What the tests do to SLURM."""

    root: Path

    def environment(self, **more: str) -> dict[str, str]:
        """Of a user of this cluster, who has the project and the attack of these tests on the path."""
        path = ":".join(map(str, (ROOT, ROOT / "runner" / "plugins", TESTS)))
        kept = {key: value for key, value in os.environ.items() if not key.startswith(("SLURM_", "HYDRA_"))}
        return {**kept, "SLURM_CONF": str(self.root / "slurm.conf"), "PYTHONPATH": path, "OMP_NUM_THREADS": "1", **more}

    def call(self, *command: str) -> str:
        """Standard output of a command. Errors: `CalledProcessError`."""
        done = subprocess.run(command, env=self.environment(), capture_output=True, text=True, timeout=60, check=True)
        return done.stdout

    def jobs(self, *options: str) -> list[str]:
        """Jobs and tasks of arrays in the queue, as `12_3`."""
        return self.call("squeue", "-h", "-r", "-o", "%i", *options).split()

    def history(self) -> pd.DataFrame:
        """Every start of every job, by accounting: job, state, start and end in seconds since 1970."""
        fields = "JobID,State,Start,End"
        text = self.call("env", "SLURM_TIME_FORMAT=%s", "sacct", "-nPXD", "-S", "2000-01-01", f"--format={fields}")
        lines = [line.split("|") for line in text.splitlines()]
        table = pd.DataFrame(lines, columns=["job", "state", "start", "end"])
        return table.assign(state=table.state.str.split().str[0])

    def blocked(self) -> str:
        """The id of a job that takes all nodes from the partition `main` until it is cancelled."""
        told = self.call(
            "sbatch", "--parsable", "-p", "high", "-N3", "--exclusive", "-o", "/dev/null", "--wrap=sleep 600"
        )
        job = told.strip()
        until(lambda: job in self.jobs("-t", "running"), "the job of the high partition runs")
        return job

    def controller(self) -> None:
        """Start the controller."""
        subprocess.run(["slurmctld"], env=self.environment(), check=True, timeout=60)

    def node(self, name: str) -> None:
        """Start a node."""
        subprocess.run(["slurmd", "-N", name], env=self.environment(), check=True, timeout=60)

    def processes(self, *marks: str) -> list[int]:
        """Processes of this cluster, its jobs included, whose environment has all these marks."""
        wanted = [mark.encode() for mark in (f"SLURM_CONF={self.root}/slurm.conf", *marks)]
        found = []
        for entry in Path("/proc").glob("[0-9]*"):
            try:
                environment = (entry / "environ").read_bytes().split(b"\0")
            except OSError:  # it has ended
                continue
            if all(mark in environment for mark in wanted):
                found.append(int(entry.name))
        return found

    def pid(self, name: str) -> int:
        """Of a daemon."""
        return int((self.root / "run" / f"{name}.pid").read_text())


@dataclass
class Sweep:
    """A sweep of cells over seeds (models) and attack seeds, and what it has left."""

    cluster: Cluster
    folder: Path
    overrides: tuple[str, ...]
    seeds: range
    attack_seeds: range
    configs: list[Config] = field(default_factory=list)
    begun: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def __post_init__(self) -> None:
        science = [text for text in self.overrides if not text.startswith("hydra.")]
        base = resolved(composed(*CELL, *science, f"outputs={self.folder / 'outputs'}"))
        pairs = product(self.seeds, self.attack_seeds)
        self.configs = [{**base, "seed": seed, "attack_seed": attack_seed} for seed, attack_seed in pairs]

    def begin(self, *more: str, script: Path = ROOT / "run.py") -> subprocess.Popen[bytes]:
        """The sweep's command; what it says is in `log`."""
        axes = [f"seed={_commas(self.seeds)}", f"attack_seed={_commas(self.attack_seeds)}"]
        line = [
            sys.executable,
            str(script),
            "-m",
            *LAUNCHER,
            *CELL,
            *self.overrides,
            *axes,
            f"outputs={self.folder}/outputs",
        ]
        environment = self.cluster.environment(COUNTED=str(self.folder / "counted"), COLUMNS="250")
        if script != ROOT / "run.py":
            parts = (script.parent, script.parent / "runner" / "plugins", TESTS)
            environment["PYTHONPATH"] = ":".join(map(str, parts))
        with open(self.folder / "log", "ab") as log:
            self.begun.append(
                subprocess.Popen([*line, *more], env=environment, cwd=self.folder, stdout=log, stderr=log)
            )
        return self.begun[-1]

    def end(self, process: subprocess.Popen[bytes]) -> int:
        """The exit code of the command."""
        return process.wait(2 * PATIENCE)

    @property
    def log(self) -> str:
        """All that was said."""
        return (self.folder / "log").read_text()

    @property
    def steps(self) -> list[str]:
        """One line for each search that was finished, `KEY EPSILON`."""
        file = self.folder / "counted"
        return file.read_text().splitlines() if file.is_file() else []

    @property
    def jobs(self) -> list[str]:
        """The tasks of attacks, as SLURM calls them, in the queue."""
        return [job for job in self.cluster.jobs("-n", "tiny") if "_" in job]

    def submissions(self) -> list[dict[str, Any]]:
        """What was submitted, call by call."""
        files = (self.folder / "outputs" / "sweeps" / "tiny" / "submissions").glob("*/submission.json")
        return [json.loads(file.read_text()) for file in sorted(files)]

    def history(self) -> pd.DataFrame:
        """Every start of every task of this sweep, by accounting."""
        arrays = [array["job"] for submission in self.submissions() for array in submission["arrays"]]
        table = self.cluster.history()
        return table[table.job.str.split("_").str[0].isin(arrays)]

    def check(self, monkeypatch: pytest.MonkeyPatch, twice: int = 0) -> None:
        """Every cell is finished, once, with the rows of an undisturbed run; at most `twice` searches were done again."""
        steps = self.steps
        assert len(steps) - len(set(steps)) <= twice
        undisturbed = str(self.folder / "undisturbed")
        monkeypatch.setenv("COUNTED", str(self.folder / "expected"))
        monkeypatch.setattr(counting.time, "sleep", lambda seconds: None)
        monkeypatch.setattr(attack, "draw_gallery", lambda setup, file: file)  # a second each, and no row depends on it
        for config in self.configs:
            other = {**config, "outputs": undisturbed}
            do(other)
            rows, expected = (pd.read_parquet(attack_run(each).folder / "rows.parquet") for each in (config, other))
            pd.testing.assert_frame_equal(rows, expected, check_exact=True)
            for run in (attack_run(config), train_run(config)):
                assert Folder(run.folder).finished()
                assert (run.folder / "run.log").read_text().count(f"{run.job.name} is done") == 1
        assert set(steps) == set((self.folder / "expected").read_text().splitlines())


def _commas(values: range) -> str:
    return ",".join(map(str, values))
