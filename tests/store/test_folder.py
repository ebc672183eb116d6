from pathlib import Path

import pytest

from runner.store import files, folder
from runner.store.folder import Folder


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b'{"status": "o',
        b"[1]",
        b"null",
        b"\xff\xfe\x00",
        b'"ok"',
        b"{}",
        b'{"status": 5}',
        b'{"status": "ok"}',
        b'{"status": "ok", "job": "train", "seconds": 1}',
    ],
)
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
    folder.record("ok", {"job": "other", "value": 1.5})
    assert folder.finished() == {"status": "ok", "store_version": 1, "job": "other", "value": 1.5}
    (tmp_path / "result.json").unlink()
    assert folder.finished() is None
    assert Folder(tmp_path / "nowhere").result() is None


def test_scratch_goes_after_success_only_and_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = Folder(tmp_path)
    files.write_text(own.scratch / "state", "x")
    own.record("failed", {})
    assert (own.scratch / "state").is_file()
    seen = []
    real = folder.shutil.rmtree
    monkeypatch.setattr(folder.shutil, "rmtree", lambda *a, **k: (seen.append(own.finished()), real(*a, **k)))
    own.record("ok", {"job": "other"})
    assert seen == [{"status": "ok", "store_version": 1, "job": "other"}]
    assert not own.scratch.exists()
