import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from runner.runs.provenance import PACKAGES, _git, _version, provenance

ROOT = Path(__file__).resolve().parents[2]


def git(folder, *arguments):
    identity = {f"GIT_{who}_{what}": "a@b" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    command = ["git", "-C", str(folder), *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True, env=os.environ | identity).stdout.strip()


@pytest.fixture
def checkout(tmp_path):
    git(tmp_path, "init", "-q")
    (tmp_path / "file").write_text("one")
    git(tmp_path, "add", "file")
    git(tmp_path, "commit", "-q", "-m", "first")
    _git.cache_clear()
    yield tmp_path
    _git.cache_clear()


def test_commit_of_a_clean_checkout(checkout):
    assert _git(checkout) == {"commit": git(checkout, "rev-parse", "HEAD"), "dirty": False}


def test_a_changed_file_makes_it_dirty_and_an_untracked_one_does_not(checkout):
    (checkout / "untracked").touch()
    assert _git(checkout)["dirty"] is False
    _git.cache_clear()
    (checkout / "file").write_text("two")
    assert _git(checkout)["dirty"] is True


def test_git_variables_do_not_point_elsewhere(checkout, monkeypatch, tmp_path):
    monkeypatch.setenv("GIT_DIR", str(ROOT / ".git"))
    monkeypatch.setenv("GIT_WORK_TREE", str(ROOT))
    commit = _git(checkout)["commit"]
    monkeypatch.delenv("GIT_DIR")
    monkeypatch.delenv("GIT_WORK_TREE")
    assert commit == git(checkout, "rev-parse", "HEAD")


def test_a_package_below_a_foreign_checkout_has_no_commit(checkout):
    (checkout / "site-packages").mkdir()
    assert _git(checkout / "site-packages") == {"commit": None, "dirty": None}


def test_no_commit_yet_and_no_git_at_all(tmp_path, monkeypatch):
    git(tmp_path, "init", "-q")
    assert _git(tmp_path) == {"commit": None, "dirty": None}
    _git.cache_clear()
    monkeypatch.setenv("PATH", str(tmp_path))
    assert _git(tmp_path) == {"commit": None, "dirty": None}
    _git.cache_clear()


def test_facts_are_plain_and_complete(monkeypatch):
    monkeypatch.setenv("SLURM_JOB_ID", "42")
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "7")
    monkeypatch.setenv("SLURM_JWT", "a token")
    monkeypatch.setenv("WANDB_API_KEY", "a key")
    facts = provenance()
    assert json.loads(json.dumps(facts)) == facts
    assert facts["slurm"] == {"SLURM_JOB_ID": "42", "SLURM_ARRAY_TASK_ID": "7"}
    assert "a token" not in json.dumps(facts)
    assert "a key" not in json.dumps(facts)
    assert set(facts["versions"]) == {"python", *PACKAGES}
    assert None not in facts["versions"].values()
    assert facts["started"].endswith("+00:00")


def test_threads_and_gpu_where_torch_is_loaded():
    import torch

    facts = provenance()
    assert facts["torch_threads"] == torch.get_num_threads()
    assert facts["gpu"] == (torch.cuda.get_device_name() if torch.cuda.is_available() else None)


def test_a_package_that_is_not_installed_has_no_version():
    assert _version("no-such-package-anywhere") is None


def test_torch_is_not_imported_for_it():
    script = """
import sys
from runner.runs.provenance import provenance
assert provenance()["torch_threads"] is None and "torch" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", script], check=True, cwd=ROOT)
