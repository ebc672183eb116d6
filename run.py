"""Compose a config and run its job: `python run.py --help` shows the groups and examples."""

import sys

from runner.main import main

if __name__ == "__main__":
    sys.exit(main())
