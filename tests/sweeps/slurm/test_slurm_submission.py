"""What is given to SLURM and what becomes of it, with a SLURM that is only played; tests/slurm has the real one."""

import json
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from composing import ROOT, composed
from fake_runs import FakeRun
from hydra.core.plugins import Plugins
from hydra.errors import HydraException
from hydra.utils import instantiate
from running import train_run

from runner.core import signals
from runner.core.errors import ConfigError, one_line
from runner.runs import provenance
from runner.runs.fingerprint import code_of
from runner.runs.run import Run
from runner.store.folder import Folder
from runner.sweeps.order import levels, packs
from runner.sweeps.plan import Plan, Task
from runner.sweeps.slurm import code_snapshot, submission, task
from runner.sweeps.slurm import commands as slurm_commands
from runner.sweeps.slurm.executor import send
from runner.sweeps.slurm.task import Pack, PlannedRun, RunsFailedError


class Played:
    """A queue whose jobs have the states that a test gives them."""

    def __init__(self) -> None:
        self.states, self.ended, self.answers = dict[str, str](), dict[str, str](), True
        self.sent: list[tuple[list[str], list[str]]] = []

    def call(self, *command: str) -> subprocess.CompletedProcess[str]:
        if not self.answers:
            return subprocess.CompletedProcess(
                command, 1, "", "slurm_load_jobs error: Unable to contact slurm controller"
            )
        shown = {"squeue": self.states, "sacct": self.ended}.get(command[0], {})
        return subprocess.CompletedProcess(command, 0, "".join(f"{job}|{state}\n" for job, state in shown.items()), "")

    def send(self, sent: Sequence[Pack], after: Sequence[str], code: Path) -> list[str]:
        number = 10 + len(self.sent)
        jobs = [f"{number}_{task}" for task in range(len(sent))] if len(sent) > 1 else [str(number)]
        self.sent.append((jobs, list(after)))
        self.states |= dict.fromkeys(jobs, "PENDING")
        return jobs


@pytest.fixture
def played(monkeypatch: pytest.MonkeyPatch) -> Played:
    made = Played()
    monkeypatch.setattr(slurm_commands, "_call", made.call)
    monkeypatch.setattr(slurm_commands.shutil, "which", lambda name: f"/usr/bin/{name}")
    return made


def plan_of(folder: Path, **needs: list[str]) -> Plan:
    """Tasks by name; one that begins with t is a training, with e an evaluation, any other an attack."""
    jobs = {"t": "train", "e": "evaluate"}
    plan = Plan([])
    for name, needed in needs.items():
        run: Any = FakeRun(jobs.get(name[0], "attack"), folder / name)
        plan.tasks[folder / name] = Task(run, [folder / other for other in needed])
    return plan


def names(lists: Sequence[Sequence[Task]]) -> list[list[str]]:
    return [[task.run.folder.name for task in level] for level in lists]


def test_levels_are_trainings_then_what_needs_them(tmp_path: Path) -> None:
    needs = {
        "t1": [],
        "a1": ["t1"],
        "a2": ["t1"],
        "ready": [],
        "t2": [],
        "a3": ["t2", "a1"],
        "e1": ["a1", "a3", "ready"],
    }
    plan = plan_of(tmp_path, **needs)
    assert names(levels(plan)) == [["t1", "t2", "ready"], ["a1", "a2"], ["a3"], ["e1"]]
    queued = {tmp_path / "t1", tmp_path / "a1"}
    assert names(levels(plan, queued)) == [["t2", "a2", "ready"], ["a3"], ["e1"]]
    assert levels(Plan([])) == []


def test_packs_hold_one_kind_of_job(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, t1=[], t2=[], t3=[], a=[], b=[], c=[], d=[])
    (level,) = levels(plan)
    assert names(packs(level, 2)) == [["t1", "t2"], ["t3"], ["a", "b"], ["c", "d"]]
    assert names(packs(level, 1)) == [[name] for name in ("t1", "t2", "t3", "a", "b", "c", "d")]


def test_submitted_once_in_order_and_found_again(played: Played, tmp_path: Path) -> None:
    plan = plan_of(tmp_path, t1=[], a1=["t1"], a2=["t1"], a3=["t1"])
    sent = submission.submit(plan, tmp_path, 2, tmp_path / "digest", played.send)
    assert played.sent == [(["10"], []), (["11_0", "11_1"], ["10"])]
    assert [(one.job, [path.name for path in one.folders]) for one in sent] == [
        ("10", ["t1"]),
        ("11_0", ["a1", "a2"]),
        ("11_1", ["a3"]),
    ]
    told = json.loads((tmp_path / "submissions" / "0001" / "submission.json").read_text())
    assert [(array["job"], array["after"]) for array in told["arrays"]] == [("10", []), ("11", ["10"])]
    assert told["code"] == str(tmp_path / "digest")

    assert submission.submit(plan, tmp_path, 2, tmp_path / "digest", played.send) == sent
    del played.states["11_1"]
    played.states["10"] = "COMPLETED"
    del plan.tasks[tmp_path / "t1"]
    again = submission.submit(plan, tmp_path, 2, tmp_path / "digest", played.send)
    assert played.sent[2:] == [(["12"], [])]
    assert [one.job for one in again] == ["11_0", "12"]
    assert again[1].outcome != sent[2].outcome


def test_what_needs_a_queued_run_waits_for_its_job(played: Played, tmp_path: Path) -> None:
    submission.submit(plan_of(tmp_path, t1=[], t2=[]), tmp_path, 1, tmp_path / "digest", played.send)
    submission.submit(plan_of(tmp_path, t1=[], t2=[], a1=["t1"]), tmp_path, 1, tmp_path / "digest", played.send)
    assert played.sent == [(["10_0", "10_1"], []), (["11"], ["10"])]


def test_nothing_is_submitted_twice_when_the_controller_is_away(played: Played, tmp_path: Path) -> None:
    plan = plan_of(tmp_path, a1=[], a2=[])
    sent = submission.submit(plan, tmp_path, 1, tmp_path / "digest", played.send)
    played.answers = False
    assert submission.submit(plan, tmp_path, 1, tmp_path / "digest", played.send) == sent


def test_a_dry_run_tells_what_is_queued(played: Played, tmp_path: Path, caplog) -> None:
    caplog.set_level("INFO")
    submission.log_queued(tmp_path)
    submission.submit(plan_of(tmp_path, a1=[], a2=[], a3=[]), tmp_path, 2, tmp_path / "digest", played.send)
    played.states = {"10_0": "RUNNING", "10_1": "PENDING"}
    caplog.clear()
    submission.log_queued(tmp_path)
    assert caplog.messages == ["3 runs of this sweep are queued in SLURM; tasks: 1 RUNNING, 1 PENDING"]
    played.answers = False
    caplog.clear()
    submission.log_queued(tmp_path)
    assert len(caplog.messages) == 1
    assert caplog.messages[0].startswith("squeue: ")


def test_an_array_larger_than_the_cluster_takes(monkeypatch, tmp_path: Path) -> None:
    told = subprocess.CompletedProcess((), 0, "MaxArraySize            = 3\n", "")
    monkeypatch.setattr(slurm_commands, "_call", lambda *command: told)
    slurm_commands.require_arrays(2, 1)
    with pytest.raises(ConfigError, match=r"hydra.launcher.pack=4: must be at least 12: .* at most 2 tasks"):
        slurm_commands.require_arrays(5, 4)


def test_waits_until_the_queue_is_empty_also_without_a_controller(played: Played, tmp_path: Path, monkeypatch) -> None:
    plan = plan_of(tmp_path, a1=[], a2=[])
    sent = submission.submit(plan, tmp_path, 1, tmp_path / "digest", played.send)
    looks = iter([{"10_0": "RUNNING", "10_1": "PENDING"}, None, {"10_0": "COMPLETING", "10_1": "COMPLETED"}, {}, {}])
    asked = []

    def sleep(seconds: float) -> None:
        asked.append(seconds)
        states = next(looks)
        played.answers, played.states = states is not None, states or {}

    monkeypatch.setattr(submission.time, "sleep", sleep)
    submission.wait(plan, sent)
    assert asked == [submission.POLL] * 4


def test_reasons_of_what_is_not_finished(played: Played, tmp_path: Path) -> None:
    plan = plan_of(tmp_path, t1=[], t2=[], a1=["t1"], a2=["t2"], a3=[], a4=[], done=[])
    sent = submission.submit(plan, tmp_path, 1, tmp_path / "digest", played.send)
    by_name = {one.folders[0].name: one for one in sent}
    by_name["t1"].outcome.parent.mkdir(parents=True)
    by_name["t1"].outcome.write_text(json.dumps({str(tmp_path / "t1"): "ValueError: no luck"}))
    Folder(tmp_path / "a4").path.mkdir()
    Folder(tmp_path / "a4").record("failed", {"error": "OSError: the disk is full"})
    Folder(tmp_path / "done").path.mkdir()
    Folder(tmp_path / "done").record("ok", {"job": "other"})
    played.ended = {by_name["t2"].job: "CANCELLED by 0", by_name["a3"].job: "OUT_OF_MEMORY"}
    assert {path.name: reason for path, reason in submission.failures(plan, sent).items()} == {
        "t1": "ValueError: no luck",
        "t2": f"its SLURM job {by_name['t2'].job} ended as CANCELLED",
        "a1": "its input failed: t1",
        "a2": "its input failed: t2",
        "a3": f"its SLURM job {by_name['a3'].job} ended as OUT_OF_MEMORY",
        "a4": "OSError: the disk is full",
    }


def test_states_of_jobs(played: Played) -> None:
    played.states = {"10_0": "RUNNING", "10_1": "COMPLETED", "11": "PENDING", "12_0": "COMPLETING", "13": "NODE_FAIL"}
    assert slurm_commands.alive(["10_0", "11", "12_0", "13"]) == {
        "10_0": "RUNNING",
        "11": "PENDING",
        "12_0": "COMPLETING",
    }
    assert slurm_commands.state("11") == "PENDING"
    assert slurm_commands.state("99") is None
    assert slurm_commands.alive([]) == {}


def test_without_slurm_the_launcher_says_so(monkeypatch) -> None:
    monkeypatch.setattr(slurm_commands.shutil, "which", lambda name: None)
    with pytest.raises(ConfigError, match="hydra/launcher=slurm: sbatch is not installed here"):
        slurm_commands.require_commands()
    assert slurm_commands.last_states(["1"]) == {}


def planned(config: dict[str, Any], **changed: Any) -> PlannedRun:
    run = Run.of(config)
    return PlannedRun(**{"run": run, "folder": str(run.folder), "needs": (), "code": code_of(run)} | changed)


def test_a_pack_does_its_cells_and_one_failure_stops_no_other(compose, tmp_path: Path) -> None:
    first, second = compose("job=train"), compose("job=train", "seed=1")
    attacks = [compose(f"seed={seed}") for seed in (0, 1, 2)]
    obstacle = train_run(first).folder / "model.safetensors"
    obstacle.mkdir(parents=True)
    lost = train_run(attacks[2]).folder
    cells = [
        *(planned(first), planned(second)),
        *(planned(attack, needs=(str(train_run(attack).folder),)) for attack in attacks),
        planned(attacks[1], folder=str(tmp_path / "attacks" / "other-0123456789ab")),
    ]
    outcome = tmp_path / "outcome.json"
    with pytest.raises(RunsFailedError, match="4 of 6 runs failed"):
        Pack(tuple(cells), code_snapshot.digest(), str(outcome))()
    reasons = json.loads(outcome.read_text())
    assert reasons.pop(cells[0].folder).startswith("IsADirectoryError")
    assert reasons == {
        cells[2].folder: f"its input failed: {obstacle.parent.name}",
        cells[4].folder: f"its input failed: {lost.name}",
        cells[5].folder: f"its identity has changed since it was planned: now {Path(cells[3].folder).name}",
    }
    assert Folder(Path(cells[3].folder)).finished()
    assert not lost.exists()


def test_a_pack_refuses_other_code(compose, tmp_path: Path) -> None:
    cell = planned(compose("job=train"))
    with pytest.raises(RunsFailedError):
        Pack((cell,), "0" * 24, str(tmp_path / "outcome.json"))()
    reasons = json.loads((tmp_path / "outcome.json").read_text())
    assert reasons[cell.folder].startswith("the code has changed since it was submitted")
    assert not Path(cell.folder).exists()


def test_a_cell_whose_own_module_has_changed_is_refused(compose, tmp_path: Path) -> None:
    config = compose("job=train")
    cell = planned(config, code=code_of(Run.of(config)) | {"my.defense": "0123456789ab"})
    with pytest.raises(RunsFailedError):
        Pack((cell,), code_snapshot.digest(), str(tmp_path / "outcome.json"))()
    reasons = json.loads((tmp_path / "outcome.json").read_text())
    assert reasons == {cell.folder: "its code has changed since it was planned; changed: my.defense"}
    assert not Path(cell.folder).exists()


@pytest.mark.parametrize("state", ["RUNNING", "COMPLETING", "PENDING", "CANCELLED"])
def test_a_stopped_task_queues_again_unless_slurm_has_decided(monkeypatch, played: Played, state: str) -> None:
    for name, value in {"SLURM_JOB_ID": "14", "SLURM_ARRAY_JOB_ID": "12", "SLURM_ARRAY_TASK_ID": "3"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("SUBMITIT_EXECUTOR", "slurm")
    played.states = {"12_3": state}
    requeued = []
    before = signal.signal(signal.SIGUSR2, lambda number, frame: requeued.append(number))
    try:
        with pytest.raises(SystemExit) as end:
            task._requeue(signals.StopRequested(signal.SIGTERM))
    finally:
        signal.signal(signal.SIGUSR2, before)
    assert end.value.code == 143
    assert requeued == ([signal.SIGUSR2] if state == "RUNNING" else [])


def test_the_copy_of_the_code_is_the_code(tmp_path: Path) -> None:
    copy = code_snapshot.take(tmp_path)
    assert copy.name == code_snapshot.digest() == code_snapshot.digest(copy)
    assert code_snapshot.take(tmp_path) == copy
    assert [path.name for path in tmp_path.iterdir()] == [copy.name]
    assert (copy / "conf" / "sweeps" / "quickstart.yaml").is_file()
    assert dict(provenance._git(copy)) == dict(provenance._git(ROOT))
    script = "import runner, hydra_plugins.runner_sweeps as own; print(runner.__path__[0], own.__path__[0])"
    environment = {"PYTHONPATH": f"{copy}:{copy / 'runner' / 'plugins'}", "PYTHONSAFEPATH": "1"}
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == [
        str(copy / "runner"),
        str(copy / "runner" / "plugins" / "hydra_plugins" / "runner_sweeps"),
    ]
    changed = copy / "conf" / "config.yaml"
    changed.write_text(changed.read_text() + "# drifted\n")
    assert code_snapshot.digest(copy) != copy.name


@pytest.fixture
def commands(tmp_path: Path, monkeypatch) -> Path:
    """A folder on the path with an sbatch that keeps what it is given, and a srun."""
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "sbatch").write_text(f'#!/bin/sh\ncp "$1" {tmp_path}/script\necho Submitted batch job 77\n')
    (folder / "srun").write_text("#!/bin/sh\n")
    for name in ("sbatch", "srun"):
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    return tmp_path / "script"


def launcher(*overrides: str) -> Any:
    Plugins.instance()
    config = composed("hydra/launcher=slurm", *overrides, hydra_node=True)
    return instantiate(config.hydra.launcher, submitit_folder=str(config.hydra.launcher.submitit_folder))


def test_the_script_says_what_the_options_say(commands: Path, tmp_path: Path, compose) -> None:
    options = [
        "partition=gpu",
        "account=lab",
        "timeout_min=90",
        "gpus_per_node=1",
        "array_parallelism=3",
        "setup=[module load x]",
    ]
    own = launcher(
        *(f"hydra.launcher.{option}" for option in options),
        *("+hydra.launcher.additional_parameters.mail_type=END", "sweep=tiny", f"outputs={tmp_path / 'a folder'}"),
    )
    pack, code = Pack((planned(compose("job=train")),), "0", "x"), tmp_path / "a folder" / "code"
    assert send([pack] * 5, ["3", "14"], code, own.params) == [f"77_{task}" for task in range(5)]
    lines = commands.read_text().splitlines()
    for flag in (
        *("--array=0-4%3", "--partition=gpu", "--account=lab", "--time=90", "--gpus-per-node=1", "--requeue"),
        *("--dependency=afterany:3:14", "--signal=USR2@120", "--mail-type=END", "--job-name=tiny", "--mem=16GB"),
    ):
        assert f"#SBATCH {flag}" in lines, flag
    setup = lines.index("module load x")
    assert lines[setup + 1].startswith(f"export PYTHONPATH='{code}:{code / 'runner' / 'plugins'}'")
    assert "PYTHONSAFEPATH=1" in lines[setup + 1]


def test_what_sbatch_refuses_is_told_in_one_line(commands: Path, tmp_path: Path, compose) -> None:
    sbatch = tmp_path / "bin" / "sbatch"
    sbatch.write_text("#!/bin/sh\necho 'sbatch: error: invalid partition specified: nope' >&2\nexit 1\n")
    own = launcher("hydra.launcher.partition=nope", f"outputs={tmp_path}")
    packs = [Pack((planned(compose("job=train", f"seed={seed}")),), "0", "x") for seed in (0, 1)]
    with pytest.raises(HydraException) as refused:
        send(packs, [], tmp_path, own.params)
    told = "hydra/launcher=slurm: sbatch refused the array: sbatch: error: invalid partition specified: nope"
    assert one_line(refused.value) == told


def test_every_option_of_the_launcher_has_a_comment() -> None:
    Plugins.instance()
    text = (ROOT / "conf" / "hydra" / "launcher" / "slurm.yaml").read_text().split("defaults:")[1]
    explained = {line.split(":")[0] for line in text.splitlines() if line[:1].isalpha() and "#" in line}
    known = composed("hydra/launcher=slurm", hydra_node=True).hydra.launcher
    assert {str(key) for key in known} - {"_target_"} == explained | {"submitit_folder"}


def test_bad_options_are_refused(run_py, tmp_path: Path) -> None:
    line = ("-m", "seed=0,1", "hydra/launcher=slurm", f"outputs={tmp_path}")
    code, _, said = run_py(*line, "hydra.launcher.pack=0")
    assert (code, said) == (1, "error: hydra.launcher.pack=0: must be at least 1\n")
