# SPDX-License-Identifier: GPL-2.0
"""KUnit: which tests the built modules have, and what the kernel says of them (KTAP)."""

import dataclasses
import sys

from . import paths
from .kernels import NotBuilt
from .module_file import ModuleFile

sys.path.append(str(paths.KERNEL_SOURCE / "tools/testing/kunit"))
import kunit_parser  # noqa: E402
import kunit_printer  # noqa: E402

VERDICTS = {
    kunit_parser.TestStatus.SUCCESS: "passed",
    kunit_parser.TestStatus.FAILURE: "failed",
    kunit_parser.TestStatus.SKIPPED: "skipped",
}


@dataclasses.dataclass
class Outcome:
    verdict: str  # "passed", "failed", "skipped" or "missing"
    details: list[str]  # what the kernel printed before it


MISSING = Outcome("missing", [])


def suites() -> dict[str, list[str]]:
    """Suite -> its tests, as they are in the modules that are built for the debug kernel."""
    out = {}
    for file in (paths.OUR_DEBUG_MODULES / name for name in ("snp_host.ko", "ccp.ko")):
        if not file.exists():
            raise NotBuilt(f"{file} is not built; run 'make debug-modules'")
        out |= ModuleFile(file).kunit_suites()
    return out


def parse(console: str) -> dict[str, dict[str, Outcome]]:
    """Suite -> test -> outcome, as the kernel's own parser has it. Tests of a suite that was cut off do not count."""
    out = {}
    lines = kunit_parser.extract_tap_lines(console.splitlines())
    while lines:  # a report for each module
        for suite in kunit_parser.parse_test(lines, 0, [], False, kunit_printer.null_printer).subtests:
            whole = suite.status != kunit_parser.TestStatus.TEST_CRASHED
            out[suite.name] = {
                test.name: Outcome(VERDICTS.get(test.status, "missing"), [line.strip() for line in test.log])
                for test in suite.subtests
                if whole
            }
    return out


def outcomes(expected: dict[str, list[str]], console: str) -> dict[str, dict[str, Outcome]]:
    """The outcome of every test of `expected`; one of which the kernel says nothing is missing."""
    found = parse(console)
    return {
        suite: {test: found.get(suite, {}).get(test, MISSING) for test in tests} for suite, tests in expected.items()
    }
