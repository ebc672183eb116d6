"""`make sync` with real offline runs and a `wandb` command that uploads nothing but does what the real one does on disk."""

import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from runner import sync
from runner.store.locks import locked
from runner.tracking import track

FAKE = f"""#!{sys.executable}
import os, sys, time
from pathlib import Path
assert sys.argv[1] == "sync" and len(sys.argv) == 3, sys.argv
run = Path(sys.argv[2])
with open({{log!r}}, "a") as log:
    log.write(run.name + "\\n")
(file,) = run.glob("*.wandb")
for name in os.environ.get("SLOW", "").split():
    time.sleep(30 if name in run.name else 0)
if any(name in run.name for name in os.environ.get("REFUSED", "").split()):
    print("wandb: Syncing 1 run(s):")
    print(os.environ.get("SAYS", "wandb: ERROR the server said no"), file=sys.stderr)
else:
    file.with_name(file.name + ".synced").touch()
"""


def records(run: Path) -> list[str]:
    """What W&B's own reader finds, one line a record."""
    reader = [sys.executable, "-m", "wandb", "leet", "inspect", "--json", str(run)]
    return subprocess.run(reader, capture_output=True, text=True, check=True).stdout.splitlines()


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A real offline run whose log is longer than two blocks of 32 KiB."""
    folder = tmp_path_factory.mktemp("real")
    request = {"job": "attack", "identity": "0" * 12, "name": "n", "group": None, "provenance": {}}
    with track({"dir": None}, **request, config={"long": ["x" * 50] * 1500}, folder=folder) as tracker:
        for step in range(20):
            tracker.log({"m": 1.0}, step_name="epsilon", step=step / 10)
    (run,) = (folder / "wandb").glob("offline-run-*")
    while '"type":"exit"' not in "".join(records(run)):  # the service writes the rest after the run has been closed
        time.sleep(0.1)
    return run


@pytest.fixture
def outputs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    script = tmp_path / "bin" / "wandb"
    script.parent.mkdir()
    script.write_text(FAKE.format(log=str(tmp_path / "called")))
    script.chmod(0o755)
    monkeypatch.setenv("PATH", str(script.parent), prepend=":")
    (tmp_path / "outputs" / "wandb").mkdir(parents=True)
    return tmp_path / "outputs"


@pytest.fixture
def add(real: Path, outputs: Path) -> Callable[..., Path]:
    """(id, minute it began, bytes to keep) -> the log of a run in the store."""

    def make(identity: str, minute: int, size: int | None = None, inside: str = "wandb") -> Path:
        run = outputs / inside / f"offline-run-20260101_00{minute:02d}00-{identity}"
        shutil.copytree(real, run)
        file = next(run.glob("*.wandb")).rename(run / f"run-{identity}.wandb")
        file.write_bytes(file.read_bytes()[:size])
        return file

    return make


def called(outputs: Path) -> list[str]:
    file = outputs.parent / "called"
    return [name.split("-", 3)[3] for name in file.read_text().splitlines()] if file.is_file() else []


def counts(err: str) -> dict[str, int]:
    lines = err.splitlines()
    (head,) = [index for index, line in enumerate(lines) if "uploaded ┃" in line]
    names, numbers = (lines[index].strip("┃│ ").replace("┃", "│").split("│") for index in (head, head + 2))
    return dict(zip((name.strip() for name in names), map(int, numbers), strict=True))


def test_one_by_one_and_only_once(add, outputs: Path, capsys) -> None:
    add("attack-bbbbbbbbbbbb", 2)
    add("train-aaaaaaaaaaaa", 1)
    add("attack-cccccccccccc", 3, inside="attacks/own-cccccccccccc/wandb")
    assert sync.main([str(outputs)]) == 0
    assert called(outputs) == ["train-aaaaaaaaaaaa", "attack-bbbbbbbbbbbb", "attack-cccccccccccc"]
    assert counts(capsys.readouterr().err) == {"uploaded": 3, "skipped": 0, "running": 0, "torn": 0, "failed": 0}
    add("attack-dddddddddddd", 4)
    assert sync.main([str(outputs)]) == 0
    assert called(outputs)[3:] == ["attack-dddddddddddd"]
    assert counts(capsys.readouterr().err)["skipped"] == 3


def test_without_a_login_it_says_so_once(add, outputs: Path, capsys, monkeypatch: pytest.MonkeyPatch) -> None:
    for minute, name in enumerate(("train-aaaaaaaaaaaa", "attack-bbbbbbbbbbbb", "attack-cccccccccccc")):
        add(name, minute)
    monkeypatch.setenv("REFUSED", "-")
    monkeypatch.setenv("SAYS", "Error: No API key configured. Use `wandb login` to log in.")
    assert sync.main([str(outputs)]) == 1
    assert called(outputs) == ["train-aaaaaaaaaaaa"]
    err = capsys.readouterr().err
    assert err.startswith("not logged in to W&B, so 3 runs wait: `wandb login`, or set WANDB_API_KEY, and try again\n")
    assert counts(err)["failed"] == 3


def test_torn_runs_are_left_alone_with_a_message_and_stop_nobody(add, outputs: Path, capsys) -> None:
    for minute, (name, size) in enumerate([("aaaaaaaaaaaa", 7), ("bbbbbbbbbbbb", 0), ("cccccccccccc", 5000)]):
        add(f"attack-{name}", minute, size)
    add("attack-dddddddddddd", 9)
    assert sync.main([str(outputs)]) == 0
    assert called(outputs) == ["attack-dddddddddddd"]
    err = capsys.readouterr().err
    assert counts(err) == {"uploaded": 1, "skipped": 0, "running": 0, "torn": 3, "failed": 0}
    assert "torn offline-run-20260101_000000-attack-aaaaaaaaaaaa: it holds no record\n" in err
    assert "torn offline-run-20260101_000100-attack-bbbbbbbbbbbb: it has no W&B header\n" in err
    assert "torn offline-run-20260101_000200-attack-cccccccccccc: it ends within a record" in err


def test_the_parts_of_a_run_go_up_in_order_and_wait_for_each_other(
    add, outputs: Path, capsys, monkeypatch: pytest.MonkeyPatch
) -> None:
    add("attack-aaaaaaaaaaaa", 5)
    add("attack-aaaaaaaaaaaa", 1)
    add("attack-aaaaaaaaaaaa", 3, 7)
    add("attack-bbbbbbbbbbbb", 4)
    monkeypatch.setenv("REFUSED", "000100-attack-aaaaaaaaaaaa")
    assert sync.main([str(outputs)]) == 1
    err = capsys.readouterr().err
    assert "failed offline-run-20260101_000100-attack-aaaaaaaaaaaa: wandb: ERROR the server said no\n" in err
    assert "failed offline-run-20260101_000500-attack-aaaaaaaaaaaa: its earlier part failed\n" in err
    assert called(outputs) == ["attack-aaaaaaaaaaaa", "attack-bbbbbbbbbbbb"]
    monkeypatch.delenv("REFUSED")
    assert sync.main([str(outputs)]) == 0
    assert (outputs.parent / "called").read_text().split()[2:] == [
        f"offline-run-20260101_00{minute}00-attack-aaaaaaaaaaaa" for minute in ("01", "05")
    ]
    assert counts(capsys.readouterr().err) == {"uploaded": 2, "skipped": 1, "running": 0, "torn": 1, "failed": 0}


def test_a_job_that_is_at_work_is_left_until_it_has_ended(add, outputs: Path, capsys) -> None:
    add("attack-aaaaaaaaaaaa", 1)
    with locked(outputs / "attacks" / "digits-mlp-aaaaaaaaaaaa"):
        assert sync.main([str(outputs)]) == 0
    assert called(outputs) == []
    assert counts(capsys.readouterr().err)["running"] == 1
    assert sync.main([str(outputs)]) == 0
    assert called(outputs) == ["attack-aaaaaaaaaaaa"]


def test_an_upload_without_end(add, outputs: Path, capsys, monkeypatch: pytest.MonkeyPatch) -> None:
    add("attack-aaaaaaaaaaaa", 1)
    add("attack-bbbbbbbbbbbb", 2)
    monkeypatch.setenv("SLOW", "aaaaaaaaaaaa")
    monkeypatch.setattr(sync, "SECONDS", 1.5)
    assert sync.main([str(outputs)]) == 1
    assert "aaaaaaaaaaaa: not finished after 2 seconds; is there a network?\n" in capsys.readouterr().err
    assert not list(outputs.rglob("*aaaa.wandb.synced"))
    assert len(list(outputs.rglob("*.synced"))) == 1


def test_bad_input_and_an_empty_store(outputs: Path, capsys) -> None:
    assert sync.main([str(outputs / "nowhere")]) == 2
    assert capsys.readouterr().err.endswith("nowhere: no such folder\n")
    assert sync.main([str(outputs)]) == 0
    assert set(counts(capsys.readouterr().err).values()) == {0}


def test_two_at_once(add, outputs: Path, capsys) -> None:
    add("attack-aaaaaaaaaaaa", 1)
    with sync.FileLock(outputs / ".sync.lock"):
        assert sync.main([str(outputs)]) == 2
    assert "another sync of" in capsys.readouterr().err
    assert called(outputs) == []


def test_every_tear_is_found(real: Path) -> None:
    """Cut almost anywhere a log is torn, at the end of a record it is not; it has as many records as for W&B's own reader."""
    content = next(real.glob("*.wandb")).read_bytes()
    assert len(content) > 2 * 32 * 1024
    told = records(real)
    whole = [
        size for size in (*range(800), *range(800, len(content), 97), len(content)) if sync.torn(content[:size]) is None
    ]
    assert 0 < len(whole) < len(told)
    assert whole[-1] == len(content)
    assert sync.torn(content[:-1]) == f"it ends within a record, after {len(told) - 1} complete ones"
    assert sync.torn(content + b"\0") == f"it ends within a record, after {len(told)} complete ones"
