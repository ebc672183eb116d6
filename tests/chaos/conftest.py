"""What chaos needs: the right to mount a disk, and the store of a sweep that it has left alone."""

import os
from pathlib import Path

import pytest
from disturbed import undisturbed


@pytest.fixture(scope="session")
def expected(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The store of an undisturbed sweep; its notes stand beside it."""
    if os.geteuid():
        pytest.fail("needs root, which mounts small disks")
    return undisturbed(tmp_path_factory.mktemp("undisturbed"))
