# SPDX-License-Identifier: GPL-2.0
"""The program host-check (tools/host-check), and what it finds in a machine (selftests/vm/host-check.sh)."""

import dataclasses
import functools
import json
import subprocess
from pathlib import Path

from . import initramfs, paths
from .machine import Result

PROGRAM = paths.TARGET / "host-check"


@functools.cache
def build() -> Path:
    with paths.making("host-check"):
        subprocess.run([paths.TOP / "tools/host-check/build"], check=True)
    return PROGRAM


def files() -> dict[str, Path]:
    """What the machine has besides, with snphost for a comparison: name inside -> file here."""
    libraries = {
        f"usr/lib/{lib.split('/lib/', 1)[1]}": Path(lib)
        for lib in initramfs.libraries(str(paths.SNPHOST))
        if "/lib/" in lib
    }
    return libraries | {"usr/bin/host-check": build(), "usr/bin/snphost": paths.SNPHOST}


@dataclasses.dataclass(frozen=True)
class Look:
    """What host-check and snphost said at a time."""

    status: int
    findings: list[dict]  # host-check's lines, as its --json has them
    snphost: tuple[int, int]  # status, checks that failed

    def of(self, verdict: str) -> dict[str, str]:
        """The lines with this verdict: name -> text."""
        return {f["name"]: f"{f['text']} → {f['todo']}" for f in self.findings if f["verdict"] == verdict}


def looks(result: Result) -> dict[str, Look]:
    """By the names that the scenario has for them."""
    said: dict[str, dict[str, list[str]]] = {}
    for line in result.lines:
        if line.startswith(("@found ", "@status ", "@snphost ")):
            key, name, rest = line[1:].split(" ", 2)
            said.setdefault(name, {}).setdefault(key, []).append(rest)
    return {
        name: Look(
            int(lines["status"][0]),
            [json.loads(line) for line in lines["found"]],
            tuple(map(int, lines["snphost"][0].split())),
        )
        for name, lines in said.items()
    }
