# SPDX-License-Identifier: GPL-2.0
"""Directories of runs, with what machine and models had to say."""

import shutil
import tempfile
import time
from pathlib import Path

from . import paths


def _last_change(run: Path) -> float:
    try:
        return run.stat().st_mtime
    except FileNotFoundError:
        return 0  # Tests that run in parallel tidy up, too.


def new_run(name: str) -> Path:
    paths.RUNS.mkdir(parents=True, exist_ok=True)
    old = sorted(paths.RUNS.iterdir(), key=_last_change)
    # Of those that went wrong more are kept: somebody may still want to know why.
    bad = [run for run in old if (run / "failure").exists()]
    for run in [run for run in old if run not in bad][:-40] + bad[:-40]:
        shutil.rmtree(run, ignore_errors=True)
    return Path(tempfile.mkdtemp(prefix=f"{time.strftime('%H%M%S')}-{name}-", dir=paths.RUNS))
