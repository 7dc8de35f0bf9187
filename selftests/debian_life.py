# SPDX-License-Identifier: GPL-2.0
"""What was seen in each start of a whole Debian (scripts/disk) that ran a script with vm/debian-lib.sh."""

import collections
import json
import re
import subprocess
from pathlib import Path

from vmlib import disk, paths, psp_trace
from vmlib.runs import new_run

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
