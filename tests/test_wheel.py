"""The wheel by itself: in an empty folder, without the repository, it has its configs and a program that runs."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pandas as pd
import pytest
from composing import ROOT

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
PROGRAM = "attribution-robustness"


def _done(*command: str | Path, cwd: Path, path: Path | None = None) -> subprocess.CompletedProcess[str]:
    clean = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "OUTPUTS")}
    env = clean | ({} if path is None else {"PYTHONPATH": str(path)})
    return subprocess.run([*map(str, command)], cwd=cwd, env=env, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built wheel."""
    made = tmp_path_factory.mktemp("built")
    done = _done(sys.executable, "-m", "pip", "wheel", "--no-deps", "--wheel-dir", made, ROOT, cwd=made)
    assert done.returncode == 0, done.stderr
    (found,) = made.glob("*.whl")
    return found


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the installed package and nothing of the repository."""
    folder = tmp_path_factory.mktemp("some where") / "packages"
    done = _done(sys.executable, "-m", "pip", "install", "--no-deps", "--target", folder, wheel, cwd=folder.parent)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture
def program(installed: Path, tmp_path: Path):
    """(*arguments) -> the finished process of the installed program, in an empty folder."""

    def call(*arguments: str) -> subprocess.CompletedProcess[str]:
        return _done(sys.executable, installed / "bin" / PROGRAM, *arguments, cwd=tmp_path, path=installed)

    return call


def test_it_holds_every_config(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    configs = {path.relative_to(ROOT).as_posix() for path in (ROOT / "conf").rglob("*") if path.is_file()}
    assert {f"runner/{name}" for name in configs} <= names
    assert "hydra_plugins/runner_sweeps/local.py" in names
    assert not {name for name in names if name.startswith(("tests/", "conf/", "sweeps/", "runner/plugins/"))}


def test_the_code_is_that_of_the_wheel(installed: Path, tmp_path: Path) -> None:
    script = (
        "import runner, runner.api, runner.sync; from runner.core.conf import conf; print(runner.__path__[0], conf())"
    )
    done = _done(sys.executable, "-c", script, cwd=tmp_path, path=installed)
    assert done.stdout.strip() == f"{installed / 'runner'} {installed / 'runner' / 'conf'}", done.stderr


def test_the_functions_for_python_need_nothing_else(installed: Path, tmp_path: Path) -> None:
    script = """
import torch
from torch import nn
from runner.api import attack, explain
model, images = nn.Sequential(nn.Flatten(), nn.Linear(16, 8), nn.ReLU(), nn.Linear(8, 3)), torch.rand(5, 1, 4, 4)
print(explain(model, images, attribution="smoothgrad", samples=3).shape, attack(model, images, steps=2).images.shape)
"""
    done = _done(sys.executable, "-c", script, cwd=tmp_path, path=installed)
    assert done.stdout.strip() == "torch.Size([5, 1, 4, 4]) torch.Size([4, 5, 1, 4, 4])", done.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_tiny_attack_runs(program, tmp_path: Path) -> None:
    done = program("+debug=tiny", "tracking=none", "job=attack")
    assert done.returncode == 0, done.stderr
    (rows,) = (tmp_path / "outputs" / "debug" / "attacks").glob("*/rows.parquet")
    assert len(pd.read_parquet(rows)) > 0
    assert [path.name for path in tmp_path.iterdir()] == ["outputs"]


def test_a_sweep_is_planned_and_its_workers_run(program, tmp_path: Path) -> None:
    done = program("-m", "+sweeps=quickstart", "hydra.launcher.dry_run=true")
    assert done.returncode == 3, done.stderr  # something is missing
    assert "16 missing" in done.stdout
    assert list(tmp_path.rglob("*.yaml")) == []
    small = ("+debug=tiny", "tracking=none", "job=attack", "defense=none,madry_l2", "hydra.launcher.processes=2")
    done = program("-m", *small, "sweep=two")
    assert done.returncode == 0, done.stderr
    assert len(list((tmp_path / "outputs" / "debug" / "attacks").glob("*/rows.parquet"))) == 2
    again = program("-m", *small, "sweep=two", "hydra.launcher.dry_run=true")
    assert again.returncode == 0, again.stderr
    assert "2 done, 0 missing" in again.stdout


def test_a_copy_for_queued_jobs_holds_the_configs(installed: Path, tmp_path: Path) -> None:
    script = "from pathlib import Path; from runner.sweeps.slurm.code_snapshot import take; print(take(Path('code')))"
    done = _done(sys.executable, "-c", script, cwd=tmp_path, path=installed)
    copy = Path(done.stdout.strip())
    assert (copy / "runner" / "conf" / "sweeps" / "quickstart.yaml").is_file(), done.stderr
    attack = _done(sys.executable, "-m", "runner.main", "--cfg", "job", cwd=tmp_path, path=copy)
    assert "_target_: runner.jobs.evaluate.run" in attack.stdout, attack.stderr


def test_uploads_and_errors_are_one_line(program, installed: Path, tmp_path: Path) -> None:
    (tmp_path / "outputs").mkdir()
    done = _done(sys.executable, "-m", "runner.sync", cwd=tmp_path, path=installed)
    assert done.returncode == 0, done.stderr
    done = program("attack=tpok")
    assert done.returncode == 1
    assert done.stderr.startswith("error: ")
    assert "topk" in done.stderr
