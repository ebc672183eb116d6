"""Freed blocks are not returned to the system, so the next step finds their pages in place."""

import os
import subprocess
import sys

import pytest

FAULTS = """
import resource, torch
from runner.core.memory import keep_freed_memory
keep_freed_memory()
for _ in range(2):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(10):
        torch.ones(2**23)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="glibc")
def test_pages_are_faulted_in_once_and_a_users_own_threshold_is_respected():
    def faults(**more: str) -> int:
        environment = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")} | more
        done = subprocess.run(
            [sys.executable, "-c", FAULTS], env=environment, capture_output=True, text=True, check=True
        )
        return int(done.stdout)

    assert faults() < 100
    assert faults(MALLOC_TRIM_THRESHOLD_="131072") > 10 * 2**23 * 4 // 2**21  # at least one a huge page
