"""The order of a plan's missing runs on a cluster: arrays that wait for each other, and the runs of each task."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path

from runner.sweeps.plan import Plan, Task


def levels(plan: Plan, queued: Collection[Path] = ()) -> list[list[Task]]:
    """The tasks that are not queued yet, in lists; the tasks of a list need only earlier lists or queued tasks.

    Trainings come first in a list, since other runs wait for them.
    """
    depths, found = dict[Path, int](), list[list[Task]]()
    for path, task in plan.tasks.items():  # inputs come before the runs that need them
        if path in queued:
            continue
        depths[path] = max((depths[needed] + 1 for needed in task.needs if needed in depths), default=0)
        found += [[] for _ in range(depths[path] + 1 - len(found))]
        found[depths[path]].append(task)
    return [sorted(level, key=lambda task: task.run.job.name != "train") for level in found]


def packs(level: Sequence[Task], size: int) -> list[list[Task]]:
    """The tasks in lists of at most `size`; all tasks of a list have the same kind of job."""
    kinds = list(dict.fromkeys(task.run.job.name for task in level))
    alike = [[task for task in level if task.run.job.name == kind] for kind in kinds]
    return [tasks[first : first + size] for tasks in alike for first in range(0, len(tasks), size)]
