# SPDX-License-Identifier: GPL-2.0
"""KVM's own selftests: the programs, and what they said in a machine (`selftest` in vm/lib.sh)."""

import dataclasses
import subprocess
from collections.abc import Iterable
from pathlib import Path

from conftest import paths, values


@dataclasses.dataclass
class Outcome:
    status: int
    seconds: int
    output: list[str]


def files(tests: Iterable[str]) -> dict[str, Path]:
    """Builds the programs if they are not there yet: name in a machine -> file here."""
    subprocess.run([paths.TOP / "scripts/kvm-selftests"], check=True)
    programs = paths.CACHE / "kvm-selftests" / paths.RELEASE / "bin"
    return {f"selftests/{name}": programs / name for name in tests}


def outcomes(result) -> dict[str, Outcome]:
    """By test, from what the scenario printed."""
    said = [line.partition(" ")[::2] for line in values(result, "output")]
    found = {}
    for name, status, seconds in map(str.split, values(result, "selftest")):
        found[name] = Outcome(int(status), int(seconds), [line for test, line in said if test == name])
    return found
