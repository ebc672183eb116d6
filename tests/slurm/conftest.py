"""A real SLURM of three nodes on this machine, with accounting, for as long as the tests run."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from small_cluster import HERE, Cluster, Sweep, until

PACKAGES = "slurmctld slurmd slurm-client munge slurmdbd slurm-wlm-mysql-plugin mariadb-server"


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """Up for the session; at its end no process of it is left."""
    lost = [name for name in ("slurmctld", "slurmd", "slurmdbd", "munged", "mariadbd") if shutil.which(name) is None]
    if lost or os.geteuid():
        pytest.fail(f"needs root and the Debian packages {PACKAGES}: {', '.join(lost) or 'not root'}")
    made = Cluster(Path(tempfile.mkdtemp(prefix="slurm-")))
    made.root.chmod(0o755)
    try:
        subprocess.run([HERE / "cluster_up.sh", made.root], check=True, timeout=180)
        yield made
    finally:
        subprocess.run([HERE / "cluster_down.sh", made.root], check=True, timeout=120)
        left = [pid for pid in made.processes() if pid != os.getpid()]
        for pid in left:
            os.kill(pid, 9)
        shutil.rmtree(made.root)
    assert left == []


@pytest.fixture
def free(cluster: Cluster) -> Iterator[Cluster]:
    """The cluster with an empty queue, before and after."""
    yield cluster
    if cluster.jobs():
        cluster.call("scancel", "-u", "root")
    until(lambda: not cluster.jobs(), "the queue is empty")


@pytest.fixture
def sweep(free: Cluster, tmp_path: Path) -> Iterator[Callable[..., Sweep]]:
    """(seeds, attack seeds, *overrides) -> a sweep that has not begun; its command ends with the test."""
    made: list[Sweep] = []

    def make(seeds: int, attacks: int, *overrides: str) -> Sweep:
        made.append(Sweep(free, tmp_path, overrides, range(seeds), range(attacks)))
        return made[-1]

    yield make
    for process in (process for one in made for process in one.begun):
        process.kill()
        process.wait()
