"""What an attack leaves in an offline W&B run, read back with W&B's own reader."""

import subprocess
import sys
from pathlib import Path

import pytest
from running import attack_run, do


@pytest.mark.pictures
def test_an_attack_logs_its_curves_rows_and_gallery(compose, tmp_path: Path) -> None:
    config = compose("tracking=wandb_offline")
    do(config)
    assert (attack_run(config).folder / "gallery.png").read_bytes()[:4] == b"\x89PNG"
    (run,) = tmp_path.rglob(f"offline-run-*-attack-{attack_run(config).identity}")
    wandb = Path(sys.executable).with_name("wandb")
    told = subprocess.run([wandb, "leet", "inspect", "--json", run], capture_output=True, text=True, check=True).stdout
    for wanted in ("metric/topk_intersection", "attack/unharmed", '"epsilon"', "gallery", "rows"):
        assert wanted in told, wanted
