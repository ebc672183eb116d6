"""Sweeps in local processes under seeded schedules of disasters: no lost row, no torn file read as whole, no cell done twice."""

import random
import shutil
from pathlib import Path

import pytest
from disasters import DISTURBANCES, Disturbance
from disturbed import Disturbed
from share import SHARE

SCHEDULES = 4 * len(DISTURBANCES)
"""Each disturbance comes first in four of them, and a drawn one follows; once with W&B, once a finished store is made again."""


def drawn(schedule: int) -> tuple[random.Random, list[Disturbance]]:
    """The random numbers of a schedule, and its disturbances."""
    draw = random.Random(schedule)
    return draw, [DISTURBANCES[schedule % len(DISTURBANCES)], draw.choice(DISTURBANCES)]


def name(schedule: int) -> str:
    """What is done in a schedule, for the list of tests."""
    return "-".join([str(schedule), *(disturb.__name__ for disturb in drawn(schedule)[1])])


def mine(schedule: int) -> bool:
    """Whether a schedule is in this share of them; each share has one or two that begin with each disturbance."""
    part, parts = SHARE
    return (schedule + schedule // len(DISTURBANCES)) % parts == part - 1


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("schedule", [number for number in range(SCHEDULES) if mine(number)], ids=name)
def test_a_sweep_survives(schedule: int, expected: Path, tmp_path: Path) -> None:
    draw, disturbances = drawn(schedule)
    with Disturbed(tmp_path).mounted() as sweep:
        if schedule // len(DISTURBANCES) == 2:
            sweep.tracking = "wandb_offline"
        if schedule // len(DISTURBANCES) == 3:
            shutil.copytree(expected, sweep.outputs)
            sweep.rerun = "all"
        lost = 0
        for disturb in disturbances:
            lost += disturb(sweep, draw)
            sweep.check(expected)
        sweep.finish(expected, lost)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_store_that_may_not_be_written_to_can_be_looked_at(expected: Path, tmp_path: Path) -> None:
    with Disturbed(tmp_path).mounted() as sweep:
        shutil.copytree(expected, sweep.outputs)
        with sweep.read_only():
            assert sweep.end(sweep.begin("hydra.launcher.dry_run=true")) == 0, sweep.log
            assert "2 cells: 2 done, 0 missing" in sweep.log
            assert sweep.end(sweep.begin()) == 1
        assert sweep.log.splitlines()[-1].startswith("error: [Errno 30] Read-only file system: ")
        sweep.check(expected)
