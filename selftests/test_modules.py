# SPDX-License-Identifier: GPL-2.0
"""The modules fit the kernel, and a module that does not is found out."""

import subprocess

from vmlib import paths


def check_modules(*arguments: str) -> subprocess.CompletedProcess:
    return subprocess.run([paths.TOP / "scripts/check-modules", *arguments], capture_output=True, text=True)


def test_modules_fit():
    run = check_modules()
    assert run.returncode == 0, run.stderr


def test_misfits_are_found():
    run = check_modules("--self-test")
    assert run.returncode == 0, run.stdout
