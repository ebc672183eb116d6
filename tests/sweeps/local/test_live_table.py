"""What a sweep shows while it runs: the table that its workers fill, and plain lines where there is no terminal."""

import io
import logging
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from rich.console import Console

from runner.core import activity
from runner.core.activity import FOLDER, Activity, read, steps, working_on
from runner.core.progress import QUIET, progress
from runner.sweeps.local.live_table import overview, table


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(FOLDER, str(tmp_path))
    monkeypatch.setenv(QUIET, "1")
    return tmp_path


def test_a_worker_says_what_it_does_and_how_far_it_is(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(activity, "_SECONDS_BETWEEN_WRITES", 0.0)
    before = time.monotonic()
    with working_on("attacks-x"), progress("topk", total=5, done=2) as advance:
        advance("epsilon 0.1")
        (working,) = read(folder)
        assert (working.process, working.run, working.done, working.total) == (os.getpid(), "attacks-x", 3, 5)
        assert working.text == "epsilon 0.1"
        assert before <= working.began <= time.monotonic()
        with working_on("models-y"):
            assert [each.run for each in read(folder)] == ["models-y"]
        assert read(folder) == [working]
    assert read(folder) == []


def test_it_writes_now_and_then_and_at_the_end(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(activity, "_SECONDS_BETWEEN_WRITES", 60.0)
    with working_on("run"):
        advance = steps(total=3, done=0)
        seen = []
        for _ in range(3):
            advance("")
            seen += [each.done for each in read(folder)]
    assert seen == [0, 0, 3]


def test_a_process_that_died_does_nothing(folder: Path) -> None:
    program = "import os\nfrom runner.core.activity import working_on\nwith working_on('x'):\n    os._exit(1)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 1
    assert len(list(folder.iterdir())) == 1
    assert read(folder) == []


def test_without_a_table_nothing_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(FOLDER, raising=False)
    monkeypatch.chdir(tmp_path)
    with working_on("run"):
        steps(total=2, done=0)("text")
    assert list(tmp_path.iterdir()) == []
    steps(total=2, done=0)("text")


def test_the_table() -> None:
    shown = Console(file=io.StringIO(), width=100)
    for each in table([Activity(7, "mnist-[x]", 100.0, 2, 9, "loss [0.1]"), Activity(11, "b", 165.2)], now=166.0):
        shown.print(each)
    text = shown.file.getvalue()  # type: ignore[attr-defined]
    lines = [" ".join(line.strip("│").split("│")).split() for line in text.splitlines() if line.startswith("│")]
    assert lines == [["7", "mnist-[x]", "1:06", "2/9", "loss", "[0.1]"], ["11", "b", "0:00"]]
    assert table([], now=0.0) == []


def test_on_a_terminal_it_shows_the_bar_and_takes_the_board_away(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setattr("sys.stderr", Terminal())
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setenv("TERM", "xterm")
    with overview(2) as advance:
        place = Path(os.environ[FOLDER])
        with working_on("digits-run"):
            advance("done digits-[1]")
            time.sleep(0.6)
    assert FOLDER not in os.environ
    assert not place.exists()
    shown = sys.stderr.getvalue()  # type: ignore[attr-defined]
    assert "digits-run" in shown
    assert "1/2" in shown
    assert "done digits-[1]" in shown


def test_elsewhere_it_logs_lines(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.delenv(QUIET, raising=False)
    monkeypatch.setattr("sys.stderr", io.StringIO())
    with caplog.at_level(logging.INFO), overview(1) as advance:
        assert FOLDER not in os.environ
        advance("done x")
    assert caplog.messages == ["sweep: 1 of 1, 0 s left. done x"]
