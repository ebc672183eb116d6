import os
import stat
from pathlib import Path

import pandas as pd
import pytest
import torch

from runner.store import files


def test_a_failing_writer_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    file = tmp_path / "deep" / "file.txt"
    files.write_text(file, "old")

    def write() -> None:
        with files.replacing(file) as beside:
            beside.write_text("half of the n")
            raise RuntimeError("disk")

    with pytest.raises(RuntimeError, match="disk"):
        write()
    assert file.read_text() == "old"
    assert [path.name for path in file.parent.iterdir()] == ["file.txt"]


def test_the_new_file_appears_in_one_step(tmp_path: Path) -> None:
    file = tmp_path / "file.txt"
    with files.replacing(file) as beside:
        beside.write_text("whole")
        written = beside.stat().st_ino
        assert not file.exists()
        assert beside.parent == file.parent
    assert file.read_text() == "whole"
    assert file.stat().st_ino == written
    assert [path.name for path in tmp_path.iterdir()] == ["file.txt"]


def test_no_two_writers_write_under_one_name(tmp_path: Path) -> None:
    with files.replacing(tmp_path / "f") as one, files.replacing(tmp_path / "f") as other:
        assert one != other
        one.write_text("one")
        other.write_text("other")
    assert [path.name for path in tmp_path.iterdir()] == ["f"]


def test_round_trips(tmp_path: Path) -> None:
    shared = torch.arange(6.0).reshape(2, 3)
    tensors = {"a": shared, "b": shared.t(), "c": torch.tensor([True, False]), "d": torch.tensor(3)}
    files.write_tensors(tmp_path / "t.safetensors", tensors, {"steps": "2"})
    read = files.read_tensors(tmp_path / "t.safetensors")
    assert read is not None
    assert read[1] == {"steps": "2"}
    assert all(
        torch.equal(read[0][name], value) and read[0][name].dtype == value.dtype for name, value in tensors.items()
    )
    frame = pd.DataFrame({"x": [1, 2], "y": [0.1, float("inf")], "z": ["a", "b"]})
    files.write_frame(tmp_path / "f.parquet", frame)
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "f.parquet"), frame)


def test_files_can_be_read_by_whom_the_umask_says(tmp_path: Path) -> None:
    before = os.umask(0o022)
    try:
        files.write_tensors(tmp_path / "t.safetensors", {"a": torch.zeros(1)})
        files.write_json(tmp_path / "r.json", {})
    finally:
        os.umask(before)
    assert {stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("t.safetensors", "r.json")} == {0o644}


def test_torn_tensors_are_no_tensors(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file = tmp_path / "t.safetensors"
    assert files.read_tensors(file) is None
    files.write_tensors(file, {"a": torch.zeros(100)})
    whole = file.read_bytes()
    for content in (whole[:-1], whole[:20], b"", b"\xff" * 50):
        file.write_bytes(content)
        assert files.read_tensors(file) is None
    assert "its work starts from the beginning" in caplog.text
