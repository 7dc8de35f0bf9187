# SPDX-License-Identifier: GPL-2.0
"""KUnit: which tests the sources have, and what the kernel says of them (KTAP)."""

import dataclasses
import re

from . import paths


@dataclasses.dataclass
class Outcome:
    verdict: str  # "passed", "failed", "skipped" or "missing"
    details: list[str]  # what the kernel printed before it


def sources() -> dict[str, list[str]]:
    """Suite -> its tests, as they stand in the Rust sources."""
    suites = {}
    for file in sorted((paths.TOP / "rust").rglob("*.rs")):
        # Everything between one suite's attribute and the next belongs to it.
        for suite in re.split(r"#\[kunit_tests\(", file.read_text())[1:]:
            suites[suite.partition(")")[0]] = re.findall(r"#\[test\]\s*(?:#\[[^\n]*\]\s*)*fn (\w+)", suite)
    return suites


def parse(console: str) -> dict[str, dict[str, Outcome]]:
    """Suite -> test -> outcome. A suite's tests stand indented below "# Subtest:", its own verdict
    after them; one that has none was cut off and its tests do not count."""
    suites, tests, details = {}, {}, []
    for line in console.splitlines():
        line = re.sub(r"^\[ *\d+\.\d+\] ", "", line)
        if re.match(r" +# Subtest: ", line):
            tests, details = {}, []
        elif test := re.match(r" +(not )?ok \d+ (\S+)(.*)", line):
            skipped = re.search(r"# SKIP", test[3])
            tests[test[2]] = Outcome("failed" if test[1] else "skipped" if skipped else "passed", details)
            details = []
        elif suite := re.match(r"(?:not )?ok \d+ (\S+)", line):
            suites[suite[1]] = tests
        elif line.strip() and not re.match(r"\s*(KTAP version|1\.\.|# module:|# .*speed:)", line):
            details.append(line.strip())
    return suites


def outcomes(expected: dict[str, list[str]], console: str) -> dict[str, dict[str, Outcome]]:
    """The outcome of every test of `expected`; one of which the kernel says nothing is missing."""
    found = parse(console)
    return {suite: {test: found.get(suite, {}).get(test, Outcome("missing", [])) for test in tests} for suite, tests in expected.items()}
