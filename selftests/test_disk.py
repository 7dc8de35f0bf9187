# SPDX-License-Identifier: GPL-2.0
"""A whole Debian on a disk (scripts/disk), as an SNP host. A start takes more than a minute of CPU time."""

import json
import subprocess

import pytest
from conftest import paths
from vmlib import disk

SNP_HOST = paths.TOP / "scripts/snp-host"


@pytest.fixture
def base(long):
    """The disk. It takes five minutes to make."""
    if not long:
        pytest.skip("in make test-long")
    return disk.base()


def snp_host(*words, limit: float = 600) -> subprocess.CompletedProcess:
    command = [str(word) for word in (SNP_HOST, "run", *words)]
    return subprocess.run(command, capture_output=True, text=True, timeout=limit, check=False)


def trace(file) -> list[dict]:
    return [json.loads(line) for line in file.read_text().splitlines()]


def test_debian_starts_from_a_disk_and_restarts(base, tmp_path):
    """By BIOS and GRUB; the in-tree driver initialises SNP; after a restart, which what was written survives, again."""
    here = tmp_path / "here"
    here.write_text("from outside\n")
    before = base.stat().st_mtime_ns
    script = "cat /opt/there; [ -e /root/once ] && exit 7; touch /root/once; systemctl reboot; sleep 100"
    done = snp_host(
        "--root", base, "--out", tmp_path, "--file", f"{here}:/opt/there", "--timeout", 500, "--", "sh", "-c", script
    )
    console = (tmp_path / "console.log").read_text(errors="replace")
    assert (done.returncode, done.stdout) == (7, "from outside\n" * 2), (done.stderr, console[-2000:])
    assert console.count("SEV-SNP API:") == 2 and console.count("Linux version") == 2
    inits = [entry["status"] for entry in trace(tmp_path / "trace.jsonl") if entry.get("cmd") == "SNP_INIT_EX"]
    assert inits == [0, 0] and base.stat().st_mtime_ns == before
