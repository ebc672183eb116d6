"""Shows jobs in Weights & Biases. The store holds the results; no failure here stops a job."""

from runner.tracking.tracked_job import track
from runner.tracking.tracker import Tracker

__all__ = ["Tracker", "track"]
