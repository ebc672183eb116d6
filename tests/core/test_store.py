import os
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest
import torch

from runner.core import store
from runner.core.store import Folder, locked

HOLDER = """
import sys, time
from pathlib import Path
from runner.core.store import locked
with locked(Path(sys.argv[1]), lambda: print("waiting", flush=True)) as folder:
    print("held", flush=True)
    if len(sys.argv) > 2:
        sys.stdin.readline()
    else:
        (folder.path / "second").write_text("x")
"""


def test_a_failing_writer_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    file = tmp_path / "deep" / "file.txt"
    store.write_text(file, "old")

    def write() -> None:
        with store.replacing(file) as beside:
            beside.write_text("half of the n")
            raise RuntimeError("disk")

    with pytest.raises(RuntimeError, match="disk"):
        write()
    assert file.read_text() == "old"
    assert [path.name for path in file.parent.iterdir()] == ["file.txt"]


def test_the_new_file_appears_in_one_step(tmp_path: Path) -> None:
    file = tmp_path / "file.txt"
    with store.replacing(file) as beside:
        beside.write_text("whole")
        written = beside.stat().st_ino
        assert not file.exists()
        assert beside.parent == file.parent
    assert file.read_text() == "whole"
    assert file.stat().st_ino == written
    assert [path.name for path in tmp_path.iterdir()] == ["file.txt"]


def test_no_two_writers_write_under_one_name(tmp_path: Path) -> None:
    with store.replacing(tmp_path / "f") as one, store.replacing(tmp_path / "f") as other:
        assert one != other
        one.write_text("one")
        other.write_text("other")
    assert [path.name for path in tmp_path.iterdir()] == ["f"]


def test_round_trips(tmp_path: Path) -> None:
    shared = torch.arange(6.0).reshape(2, 3)
    tensors = {"a": shared, "b": shared.t(), "c": torch.tensor([True, False]), "d": torch.tensor(3)}
    store.write_tensors(tmp_path / "t.safetensors", tensors, {"steps": "2"})
    read = store.read_tensors(tmp_path / "t.safetensors")
    assert read is not None
    assert read[1] == {"steps": "2"}
    assert all(
        torch.equal(read[0][name], value) and read[0][name].dtype == value.dtype for name, value in tensors.items()
    )
    frame = pd.DataFrame({"x": [1, 2], "y": [0.1, float("inf")], "z": ["a", "b"]})
    store.write_frame(tmp_path / "f.parquet", frame)
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "f.parquet"), frame)


def test_files_can_be_read_by_whom_the_umask_says(tmp_path: Path) -> None:
    before = os.umask(0o022)
    try:
        store.write_tensors(tmp_path / "t.safetensors", {"a": torch.zeros(1)})
        store.write_json(tmp_path / "r.json", {})
    finally:
        os.umask(before)
    assert {stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("t.safetensors", "r.json")} == {0o644}


def test_torn_tensors_are_no_tensors(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file = tmp_path / "t.safetensors"
    assert store.read_tensors(file) is None
    store.write_tensors(file, {"a": torch.zeros(100)})
    whole = file.read_bytes()
    for content in (whole[:-1], whole[:20], b"", b"\xff" * 50):
        file.write_bytes(content)
        assert store.read_tensors(file) is None
    assert "its work is done again" in caplog.text


@pytest.mark.parametrize("content", [b"", b"{", b'{"status": "o', b"[1]", b"null", b"\xff\xfe\x00", b'"ok"'])
def test_a_torn_result_is_no_result(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "result.json").write_bytes(content)
    assert Folder(tmp_path).result() is None
    assert Folder(tmp_path).finished() is None


def test_only_ok_is_finished(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    assert folder.result() is None
    folder.record("failed", {"error": "x"})
    assert (folder.result() or {})["error"] == "x"
    assert folder.finished() is None
    folder.record("ok", {"value": 1.5})
    assert folder.finished() == {"status": "ok", "store_version": 1, "value": 1.5}
    (tmp_path / "result.json").unlink()
    assert folder.finished() is None
    assert Folder(tmp_path / "nowhere").result() is None


def test_scratch_goes_after_success_only_and_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = Folder(tmp_path)
    store.write_text(folder.scratch / "state", "x")
    folder.record("failed", {})
    assert (folder.scratch / "state").is_file()
    seen = []
    real = store.shutil.rmtree
    monkeypatch.setattr(store.shutil, "rmtree", lambda *a, **k: (seen.append(folder.finished()), real(*a, **k)))
    folder.record("ok", {})
    assert seen == [{"status": "ok", "store_version": 1}]
    assert not folder.scratch.exists()


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
