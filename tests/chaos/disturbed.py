"""A sweep of tiny cells on a small disk of its own, and what must hold whatever was done to it."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from composing import ROOT
from whole import READERS, facts, same_numbers

from runner.store.folder import Folder

TESTS = Path(__file__).resolve().parents[1]
PATIENCE = 240.0
"""Seconds until a test gives up on a sweep that takes 15; the machine may have much else to do."""

SWEEP = (
    *("job=evaluate", "seeds=[0,1]", "attack_seed=0,1", "sweep=tiny", "hydra.launcher.processes=2"),
    *("dataset=digits", "model=mlp", "model.widths=[16]", "threads=1", "dataset.train_size=200"),
    *("dataset.test_size=60", "defense=counted", "training.epochs=2", "attack=counted", "attack.chunk=2"),
    *("attack.pause=0.1", "examples=4", "epsilon.stop=0.4", "epsilon.step=0.2", "metrics=[topk_intersection]"),
    f"hydra.searchpath=[file://{TESTS / 'counting_conf'}]",
)
RUNS = 8
"""Two trainings, four attacks, two evaluations."""

STEP = 4
"""Notes of the longest step: the batches of an epoch; the search of an attack is one note."""

WHOLE = "64m"


@dataclass
class Disturbed:
    """A sweep, and what it has left so far."""

    folder: Path
    """What the test keeps; the store is on a disk of its own inside."""
    rerun: str = "failed"
    tracking: str = "none"
    kept: dict[Path, dict[str, tuple[int, int, int]]] = field(default_factory=dict)
    """The files of each run that was seen finished."""
    begun: list[subprocess.Popen[bytes]] = field(default_factory=list)

    @property
    def disk(self) -> Path:
        """Where the store's disk is mounted."""
        return self.folder / "disk"

    @property
    def outputs(self) -> Path:
        """The store."""
        return self.disk / "outputs"

    @contextmanager
    def mounted(self) -> Iterator["Disturbed"]:
        """With its disk; at the end no process and no mount is left."""
        self.disk.mkdir(parents=True)
        call("mount", "-t", "tmpfs", "-o", f"size={WHOLE}", "tmpfs", self.disk)
        try:
            yield self
        finally:
            for process in self.processes():
                os.kill(process, signal.SIGKILL)
            for process in self.begun:
                process.wait()
            while os.path.ismount(self.disk):
                call("umount", self.disk)

    def begin(self, *more: str, **environment: str) -> subprocess.Popen[bytes]:
        """The sweep's command in a process group of its own; what it says is in `log`."""
        path = ":".join(map(str, (ROOT, ROOT / "runner" / "plugins", TESTS)))
        own = {"PYTHONPATH": path, "COUNTED": str(self.folder / "counted"), "COLUMNS": "300", "OMP_NUM_THREADS": "1"}
        line = [
            sys.executable,
            str(ROOT / "run.py"),
            "-m",
            *SWEEP,
            f"outputs={self.outputs}",
            f"rerun={self.rerun}",
            f"tracking={self.tracking}",
            *more,
        ]
        with open(self.folder / "log", "ab") as log:
            self.begun.append(
                subprocess.Popen(
                    line, env={**os.environ, **own, **environment}, stdout=log, stderr=log, start_new_session=True
                )
            )
        return self.begun[-1]

    def end(self, process: subprocess.Popen[bytes]) -> int:
        """The exit code of a command; none of its processes is left."""
        code = process.wait(PATIENCE)
        until(lambda: not self.processes(), "the workers have noticed that the sweep is gone")
        return code

    @property
    def log(self) -> str:
        """All that the commands have said."""
        return (self.folder / "log").read_text()

    @property
    def notes(self) -> list[str]:
        """One line for each batch and each search that was done."""
        file = self.folder / "counted"
        return file.read_text().splitlines() if file.is_file() else []

    def processes(self, words: str = "") -> list[int]:
        """Living processes of this sweep whose command line has these words."""
        mark, found = f"COUNTED={self.folder / 'counted'}".encode(), []
        for entry in Path("/proc").glob("[0-9]*"):
            try:
                own = mark in (entry / "environ").read_bytes().split(b"\0")
                if own and words.encode() in (entry / "cmdline").read_bytes():
                    found.append(int(entry.name))
            except OSError:  # it has ended
                continue
        return sorted(found)

    def workers(self) -> list[int]:
        """The processes that do the runs."""
        return self.processes("spawn_main")

    def sized(self, size: str) -> None:
        """Change what fits on the disk."""
        call("mount", "-o", f"remount,size={size}", self.disk)

    @contextmanager
    def read_only(self) -> Iterator[None]:
        """The disk may not be written to, whatever is open on it: another mount of it hides it. To be left once all have ended."""
        hidden = self.folder / "read-only"
        hidden.mkdir(exist_ok=True)
        call("mount", "--bind", self.disk, hidden)
        call("mount", "-o", "remount,bind,ro", hidden)
        call("mount", "--bind", hidden, self.disk)
        try:
            yield
        finally:
            call("umount", self.disk)
            call("umount", hidden)

    def runs(self) -> list[Path]:
        """Folders of runs, those that are made again included."""
        kinds = [self.outputs / kind for kind in ("models", "attacks", "evaluations")]
        return sorted(path for kind in kinds for path in (*kind.glob("[!.]*"), *kind.glob(".again/*")))

    def check(self, expected: Path) -> None:
        """Every file is whole, whatever finished is as in an undisturbed store, and stays as it was when it did."""
        for path in self.outputs.rglob("*"):
            if path.is_file() and not path.name.endswith(".tmp") and "wandb" not in path.parts:
                READERS.get(path.suffix, Path.read_bytes)(path)
        for path in self.runs():
            if Folder(path).finished() is None:
                continue
            same_numbers(path, expected / path.parent.name.replace(".again", path.parent.parent.name) / path.name)
            found = {file.name: facts(file) for file in path.iterdir() if file.is_file()}
            if self.rerun != "all":
                assert self.kept.setdefault(path, found) == found, f"{path} has finished twice"
        if self.rerun == "all":
            lost = [path.name for path in (expected.glob("[!.]*/[!.]*-*")) if not self._stands(path, expected)]
            assert lost == [], "an old result stays until the new one is whole"

    def _stands(self, path: Path, expected: Path) -> bool:
        own = self.outputs / path.relative_to(expected)
        return any(Folder(place).finished() for place in (own, own.parent / ".again" / own.name))

    def finish(self, expected: Path, lost: int) -> None:
        """The command once more, undisturbed: it does what is missing, and no more than `lost` notes were made twice.

        A command that makes all again makes each note once more.
        """
        every, times = (False, len(self.begun)) if self.rerun == "all" else (True, 1)
        self.rerun = "failed"
        assert self.end(self.begin()) == 0, self.log
        self.check(expected)
        wanted = (expected.parent / "counted").read_text().splitlines()
        notes = self.notes
        assert set(notes) == set(wanted) if every else set(notes) <= set(wanted)
        assert len(notes) - times * len(wanted) <= lost
        results = [Folder(path).finished() for path in self.runs() if path.parent.name != ".again"]
        assert len(results) == RUNS
        assert all(results)
        left = [
            path.name
            for path in self.outputs.rglob("*.tmp")
            if "reports" not in path.parts and ".again" not in path.parts
        ]
        assert left == []


def undisturbed(folder: Path) -> Path:
    """The store of such a sweep to which nothing happened."""
    one = Disturbed(folder)
    with one.mounted():
        assert one.end(one.begin()) == 0, one.log
        one.check(one.outputs)
        assert len(one.notes) == len(set(one.notes)) > 0
        shutil.copytree(one.outputs, folder / "outputs")
    return folder / "outputs"


def until(condition: Callable[[], object], what: str) -> None:
    """Wait for a condition. Errors: `AssertionError` when it does not come true."""
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, f"waited in vain: {what}"
        time.sleep(0.1)


def call(*command: object) -> None:
    """Run a command. Errors: `CalledProcessError`."""
    subprocess.run([str(word) for word in command], check=True, timeout=60)
