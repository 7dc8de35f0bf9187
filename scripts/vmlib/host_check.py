# SPDX-License-Identifier: GPL-2.0
"""The program host-check (tools/host-check), and what it finds in a machine (selftests/vm/host-check.sh)."""

import dataclasses
import functools
import json
import re
import subprocess
from pathlib import Path

from . import hooked, initramfs, paths
from .machine import Result

PROGRAM = paths.TARGET / "host-check"


@functools.cache
def build() -> Path:
    with paths.making("host-check"):
        subprocess.run([paths.TOP / "tools/host-check/build"], check=True)
    return PROGRAM


def files() -> dict[str, Path]:
    """What the machine has besides, with snphost for a comparison: name inside -> file here."""
    return libraries(paths.SNPHOST) | {
        "usr/bin/host-check": build(),
        "usr/bin/snphost": paths.SNPHOST,
        "usr/bin/modinfo": Path("/usr/bin/kmod"),
        f"boot/config-{paths.RELEASE}": paths.KERNEL_MODULES / "config",
    }


def launcher() -> dict[str, Path]:
    """What host-check --load needs besides."""
    return libraries(hooked.launcher()) | {"usr/bin/launcher": hooked.launcher()}


def libraries(program: Path) -> dict[str, Path]:
    needed = (lib for lib in initramfs.libraries(str(program)) if "/lib/" in lib)
    return {f"usr/lib/{lib.split('/lib/', 1)[1]}": Path(lib) for lib in needed}


@dataclasses.dataclass(frozen=True)
class Look:
    """What host-check and snphost said at a time."""

    status: int
    findings: list[dict]  # host-check's lines, as its --json has them
    snphost: tuple[int, int, str]  # status, how many of its checks failed, the first of them

    def of(self, verdict: str) -> dict[str, str]:
        """The lines with this verdict: name -> text."""
        return {f["name"]: f"{f['text']} → {f['todo']}" for f in self.findings if f["verdict"] == verdict}


def _snphost(line: str) -> tuple[int, int, str]:
    status, count, first = f"{line} ".split(" ", 2)
    plain = re.sub(r"\x1b\[[0-9;]*m", "", first)
    return int(status), int(count), re.sub(r"^\[ *FAIL *\][ -]*", "", plain).strip()


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
            _snphost(lines["snphost"][0]),
        )
        for name, lines in said.items()
    }
