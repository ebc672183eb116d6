"""A run that is made again: the old one stays until the new one is whole, wherever a kill falls."""

import logging
from pathlib import Path

import pytest

from runner.store import replacement
from runner.store.folder import Folder
from runner.store.replacement import finish_replacing, replace, rerun_folder, resume_with


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A finished run, and a new one whole beside it."""
    path = tmp_path / "attacks" / "a-x"
    for folder, text in ((Folder(path), "old"), (rerun_folder(path), "new")):
        folder.path.mkdir(parents=True)
        (folder.path / f"{text}.txt").write_text(text)
        folder.record("ok", {"job": "other", "text": text})
    return path


def is_new(path: Path) -> bool:
    left = list((path.parent / ".again").iterdir())
    return {item.name for item in path.iterdir()} == {"new.txt", "result.json"} and left == []


def test_the_new_run_takes_the_whole_place_of_the_old_one(path: Path) -> None:
    replace(path)
    assert is_new(path)


@pytest.mark.parametrize("renames", [0, 1, 2])
def test_a_kill_between_any_two_steps(path: Path, monkeypatch: pytest.MonkeyPatch, renames: int) -> None:
    done, rename = [], Path.rename

    def dying(self: Path, target: Path) -> Path:
        if len(done) == renames:
            raise KeyboardInterrupt
        done.append(target)
        return rename(self, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", dying)
        patch.setattr("shutil.rmtree", lambda *args, **kwargs: None)
        if renames < 2:
            with pytest.raises(KeyboardInterrupt):
                replace(path)
        else:
            replace(path)
    texts = {str((folder.finished() or {}).get("text")) for folder in (Folder(path), rerun_folder(path))}
    assert "new" in texts
    path.mkdir(exist_ok=True)  # as a lock on the folder does
    finish_replacing(path)
    assert (Folder(path).finished() or {})["text"] == "new"


def test_what_is_not_whole_is_not_put_in_place(path: Path) -> None:
    rerun_folder(path).record("failed", {"error": "no"})
    finish_replacing(path)
    assert (Folder(path).finished() or {})["text"] == "old"
    (rerun_folder(path).path / "result.json").unlink()
    finish_replacing(path)
    assert (Folder(path).finished() or {})["text"] == "old"


def test_half_done_work_counts_for_the_code_that_did_it(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder, state = Folder(tmp_path / "a-x"), tmp_path / "a-x" / "scratch" / "chunk"
    resume_with({"a": "1"}, folder)
    state.write_text("half")
    resume_with({"a": "1"}, folder)
    assert state.exists()
    assert caplog.messages == []
    with caplog.at_level(logging.WARNING):
        resume_with({"a": "2"}, folder)
    assert not state.exists()
    assert caplog.messages == ["a-x starts from the beginning: its code has changed since its state was saved"]
    state.write_text("half")
    (folder.scratch / "code.json").unlink()  # as a store has it that is older than fingerprints
    resume_with({"a": "2"}, folder)
    assert state.exists()


def test_what_a_kill_after_the_last_write_has_left_goes_at_the_next_look(path: Path) -> None:
    old = path.parent / ".again" / f"{path.name}.old"
    for stray in (path / "scratch" / "chunk", path / "plots" / ".curves.png.0123456789ab.tmp", old / "old.txt"):
        stray.parent.mkdir(parents=True)
        stray.write_text("half")
    replacement.tidy(path)
    assert sorted(item.name for item in path.rglob("*")) == ["old.txt", "plots", "result.json"]
    assert not old.exists()
    assert rerun_folder(path).finished(), "for the holder of the lock to put in place"


def test_a_kill_while_old_state_is_dropped_leaves_none_that_would_be_resumed(tmp_path: Path, monkeypatch) -> None:
    folder = Folder(tmp_path / "a-x")
    resume_with({"a": "1"}, folder)
    states = [folder.scratch / name for name in ("chunk-0", "chunk-1")]
    for state in states:
        state.write_text("of the old code")
    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", lambda self, missing_ok=False: {}["killed"])
        with pytest.raises(KeyError, match="killed"):
            resume_with({"a": "2"}, folder)
    states[0].unlink()  # as far as it came
    resume_with({"a": "2"}, folder)
    assert [item.name for item in folder.scratch.iterdir()] == ["code.json"]
