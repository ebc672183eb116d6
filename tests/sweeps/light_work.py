"""What the workers of a test do; importable without torch, so that they start at once."""

import os
import signal
import threading
import time
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from runner.core import stopping


def begin(threads: int, parent: int) -> None:
    """Nothing to set up."""


def work(config: dict[str, Any]) -> str | None:
    """Note the call, wait a second for the neighbour to begin as often, then die by SIGKILL, fail, or be done."""
    log = Path(config["log"])
    with open(log, "a") as file:
        file.write(f"{config['id']}\n")
    tries, deadline = log.read_text().split().count(config["id"]), time.monotonic() + 1.0
    while log.read_text().split().count(config.get("beside", config["id"])) < tries and time.monotonic() < deadline:
        time.sleep(0.01)
    if tries <= config.get("deaths", 0):
        os.kill(os.getpid(), signal.SIGKILL)
    if "dies_idle" in config:
        threading.Timer(config["dies_idle"], os.kill, (os.getpid(), signal.SIGKILL)).start()
    with stopping.listening() if config.get("deaf") else nullcontext():  # no check: what it is told is forgotten
        time.sleep(config.get("seconds", 0))
    return config.get("error")
