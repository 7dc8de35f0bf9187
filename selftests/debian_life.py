# SPDX-License-Identifier: GPL-2.0
"""What was seen in each start of a whole Debian (scripts/disk) that ran a script with vm/debian-lib.sh."""

import collections
import json
import re
import shutil
import subprocess
from pathlib import Path

from vmlib import debian, disk, paths, psp_trace
from vmlib.runs import new_run

# What of a kernel's modules an SNP host without a screen has no use for.
NO_USE = ("sound", "drivers/gpu", "drivers/media", "drivers/net", "drivers/infiniband", "drivers/iio", "drivers/hid",
          "drivers/staging", "drivers/usb")  # fmt: skip
# Each line of the driver's in a start, and its level.
AT_START = [
    ("6", r"ccp \S+: SEV enabled \(pspv2, MsiX\)"),
    ("5", r"snp_host: hotplug window opened: .* \[window-opened\]"),
    ("6", r"snp_host: RMP cleared: \d+ MiB in \d+ ms"),
    ("6", r"ccp \S+: SEV-SNP API:1\.55 build:21"),
    ("6", r"ccp \S+: SEV API:1\.55 build:21"),
]
# What the kernel says in the modules' names.
KERNELS = r": (firmware: failed to load|loading out-of-tree module|module verification failed|enabling device)"
LIBRARY = paths.VM_SCRIPTS / "debian-lib.sh"


class Life:
    def __init__(self, output: str, out: Path):
        self.console = (out / "console.log").read_text(errors="replace")
        self.trace = psp_trace.read(out / "trace.jsonl")
        self.said: dict[str, dict[str, str]] = collections.defaultdict(dict)
        self.tried: dict[str, dict[str, tuple[int, list[str]]]] = collections.defaultdict(dict)
        journal: dict[str, dict[str, dict]] = collections.defaultdict(dict)
        for line in output.splitlines():
            key, _, rest = line.partition(" ")
            start, _, text = rest.partition(" ")
            name, _, more = text.partition(" ")
            if key == "@journal":
                entry = json.loads(text)
                journal[start][entry["__CURSOR"]] = entry
            elif key == "@status":
                self.tried[start][name] = (int(more), [])
            elif key == "@said":
                self.tried[start][name][1].append(more)
            elif key.startswith("@"):
                self.said[start][key[1:]] = text
        self._journal = {
            start: sorted(entries.values(), key=lambda entry: int(entry["__MONOTONIC_TIMESTAMP"]))
            for start, entries in journal.items()
        }

    def entries(self, start: str, pattern: str, who: str = "") -> list[dict]:
        """Those of the journal whose message begins so, in their order: all, or of one identifier."""
        return [
            entry
            for entry in self._journal[start]
            if re.match(pattern, str(entry["MESSAGE"])) and who in ("", entry.get("SYSLOG_IDENTIFIER"))
        ]

    def drivers_lines(self, start: str) -> list[tuple[str, str]]:
        """What the driver says in the kernel's log, with the levels."""
        entries = self.entries(start, "ccp|snp_host", "kernel")
        return [(one["PRIORITY"], one["MESSAGE"]) for one in entries if not re.search(KERNELS, one["MESSAGE"])]

    def package_lines(self, start: str) -> list[tuple[str, str]]:
        return [(one["PRIORITY"], one["MESSAGE"]) for one in self.entries(start, "", "ccp-rs")]


def check_start(said: list[tuple[str, str]]) -> None:
    """Our driver has said each line of a start once and at its level, and nothing else."""
    said = said.copy()
    for level, pattern in AT_START:
        (found,) = [one for one in said if re.fullmatch(pattern, one[1])]
        assert found[0] == level, found
        said.remove(found)
    assert not said


def order(release: str) -> list[int]:
    """By which releases of the kernel follow each other."""
    return [int(number) for number in re.findall(r"\d+", release)]


def kernel_packages(release: str, place: Path, scratch: Path) -> list[Path]:
    """Debian's, as files in `place`."""
    debian.apt("download", *(f"linux-{part}-{release}" for part in ("image", "base", "binary", "modules")), cwd=place)
    files = list(place.glob(f"linux-*-{release}_*.deb"))
    for file in files:
        if file.name.startswith("linux-modules"):
            _make_smaller(file, release, scratch)
    return files


def _make_smaller(file: Path, release: str, scratch: Path) -> None:
    """Take most modules out of a kernel's package: an emulated CPU unpacks and reads them for minutes."""
    tree = scratch / release
    debian.run("dpkg-deb", "-R", file, tree)
    for name in NO_USE:
        shutil.rmtree(tree / "usr/lib/modules" / release / "kernel" / name, ignore_errors=True)
    debian.run("dpkg-deb", "-Znone", "-b", tree, file)


def live(name: str, script: str, arguments: list[str], files: dict[str, Path], *options, limit: int = 3600) -> Life:
    """Starts a Debian that runs a script of selftests/vm, with `files` (name inside -> file here)."""
    out = new_run(name)
    files = files | {f"/root/{file.name}": file for file in (LIBRARY, paths.VM_SCRIPTS / script)}
    words = [word for there, here in files.items() for word in ("--file", f"{here}:{there}")]
    command = [paths.TOP / "scripts/snp-host", "run", "--root", disk.base(), "--out", out, "--memory", "3G",
               "--timeout", limit, *words, *options, "--", "sh", f"/root/{script}", *arguments]  # fmt: skip
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, check=False)
    (out / "output").write_text(done.stdout)
    assert done.returncode == 0 and not done.stderr, (out, done.stdout[-3000:], done.stderr)
    return Life(done.stdout, out)
