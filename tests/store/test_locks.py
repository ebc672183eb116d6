"""One process at a time works in a run's folder."""

import errno
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from runner.core import signals
from runner.core.errors import StoreError
from runner.store.locks import held, locked

HOLDER = """
import sys, time
from pathlib import Path
from runner.store.locks import locked
with locked(Path(sys.argv[1]), lambda: print("waiting", flush=True)) as folder:
    print("held", flush=True)
    if len(sys.argv) > 2:
        sys.stdin.readline()
    else:
        (folder.path / "second").write_text("x")
"""


def hold(path: Path, *, stay: bool) -> subprocess.Popen[str]:
    arguments = [sys.executable, "-c", HOLDER, str(path), *(["stay"] if stay else [])]
    return subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def test_the_lock_keeps_a_second_process_out_until_the_first_is_killed(tmp_path: Path) -> None:
    path = tmp_path / "run"
    with hold(path, stay=True) as first:
        assert first.stdout is not None
        assert first.stdout.readline() == "held\n"
        with hold(path, stay=False) as second:
            assert second.stdout is not None
            assert second.stdout.readline() == "waiting\n"
            time.sleep(0.3)
            assert not (path / "second").exists()
            first.send_signal(signal.SIGKILL)
            assert second.stdout.readline() == "held\n"
            assert second.wait(10) == 0
    assert (path / "second").is_file()
    assert [entry.name for entry in tmp_path.iterdir() if entry.name != "run"] == [".locks"]


def test_the_lock_is_released_on_errors(tmp_path: Path) -> None:
    with pytest.raises(KeyError), locked(tmp_path / "run"):
        raise KeyError("x")
    waited: list[int] = []
    with locked(tmp_path / "run", lambda: waited.append(1)) as folder:
        assert folder.path.is_dir()
    assert waited == []


def test_a_wait_for_a_folder_ends_when_told(tmp_path) -> None:
    waits = threading.Event()

    def told() -> None:
        waits.wait(10)
        os.kill(os.getpid(), signal.SIGTERM)

    thread = threading.Thread(target=told)
    thread.start()
    with locked(tmp_path / "run"):
        with signals.listening(), pytest.raises(signals.StopRequested), locked(tmp_path / "run", waits.set):
            raise AssertionError("entered")
        thread.join()
    with locked(tmp_path / "run"):
        pass


def test_a_folder_is_held_while_a_process_works_in_it(tmp_path: Path) -> None:
    folder = tmp_path / "attacks" / "a-x"
    assert not held(folder)
    assert not (tmp_path / "attacks").exists()
    with locked(folder):
        assert held(folder)
    assert not held(folder)


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS])
def test_a_disk_without_locks_is_refused_in_one_line(tmp_path: Path, monkeypatch, number: int) -> None:
    def refused(*arguments: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("fcntl.flock", refused)
    with pytest.raises(StoreError, match=f"{tmp_path}.* has no file locks"), locked(tmp_path / "run"):
        raise AssertionError("entered")
    assert not held(tmp_path / "run")
