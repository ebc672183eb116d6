"""What the workers of a test do; importable without torch, so that they start at once."""

import os
import signal
import threading
import time
from contextlib import nullcontext
from pathlib import Path

from fake_runs import FakeRun

from runner.core import signals


def begin(threads: int, parent: int) -> None:
    """Nothing to set up."""


def work(run: FakeRun) -> str | None:
    """Note the call, wait a second for the neighbour to begin as often, then die by SIGKILL, fail, or be done."""
    config, name = run.config, run.folder.name
    log = Path(config["log"])
    with open(log, "a") as file:
        file.write(f"{name}\n")
    tries, deadline = log.read_text().split().count(name), time.monotonic() + 1.0
    while log.read_text().split().count(config.get("beside", name)) < tries and time.monotonic() < deadline:
        time.sleep(0.01)
    if tries <= config.get("deaths", 0):
        os.kill(os.getpid(), signal.SIGKILL)
    if "dies_idle" in config:
        threading.Timer(config["dies_idle"], os.kill, (os.getpid(), signal.SIGKILL)).start()
    with signals.listening() if config.get("deaf") else nullcontext():  # no check: what it is told is forgotten
        time.sleep(config.get("seconds", 0))
    return config.get("error")
