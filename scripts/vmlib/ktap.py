# SPDX-License-Identifier: GPL-2.0
"""KUnit: which tests modules have, and what the kernel's own kunit.py says of the kernel's report (KTAP)."""

import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

from . import paths
from .kernels import NotBuilt
from .module_file import ModuleFile

KUNIT = paths.KERNEL_SOURCE / "tools/testing/kunit/kunit.py"
OUR_MODULES = [paths.OUR_DEBUG_MODULES / name for name in ("snp_host.ko", "ccp.ko")]
VERDICTS = {"PASS": "passed", "SKIP": "skipped", "FAIL": "failed"}
_STAMP = re.compile(r"^\[ *\d+\.\d+\] ")


def suites(modules: Iterable[Path] = OUR_MODULES) -> dict[str, list[str]]:
    """Suite -> its tests, as they are in the modules that are built for the debug kernel."""
    out = {}
    for file in modules:
        if not file.exists():
            raise NotBuilt(f"{file} is not built; run 'make debug-modules'")
        out |= ModuleFile(file).kunit_suites()
    return out


def reports(console: str) -> Iterator[str]:
    """The kernel's reports, one for each module that has been loaded. kunit.py reads a report at a time. The first
    one, which the kernel makes of itself when it starts, has no suites."""
    lines = [_STAMP.sub("", line) for line in console.splitlines()]
    begins = [n for n, line in enumerate(lines) if line == "KTAP version 1"]
    for begin, end in zip(begins, [*begins[1:], None]):
        if lines[begin + 1 : begin + 2] != ["1..0"]:
            yield "\n".join(lines[begin:end]) + "\n"


def parse(report: str) -> tuple[dict[str, dict[str, str]], str]:
    """What "kunit.py parse" makes of a report: suite -> test -> verdict, and what it prints."""
    with tempfile.TemporaryDirectory() as scratch:
        result = Path(scratch) / "result.json"
        run = subprocess.run(
            [sys.executable, KUNIT, "parse", "--failed", f"--json={result}"],
            input=report,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        groups = json.loads(result.read_text())["sub_groups"]
    printed = [line for line in run.stdout.splitlines() if str(result) not in line]
    return {
        group["name"]: {test["name"]: VERDICTS.get(test["status"], "missing") for test in group["test_cases"]}
        for group in groups
    }, "\n".join(printed)


def outcomes(expected: dict[str, list[str]], found: dict[str, dict[str, str]]) -> dict[str, dict[str, str]]:
    """The verdict on every test of `expected`; one of which the kernel says nothing is missing."""
    return {
        suite: {test: found.get(suite, {}).get(test, "missing") for test in tests} for suite, tests in expected.items()
    }
