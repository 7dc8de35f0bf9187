# SPDX-License-Identifier: GPL-2.0
"""An SNP_INIT that takes longer than udev gives an event: what becomes of kvm_amd if udev loads it, and if the unit of
Documentation/installing.md does. udev's limit is 180 s; here it and SNP_INIT are shorter."""

import functools
import re
import subprocess
from pathlib import Path

from conftest import boot, paths, values
from vmlib.initramfs import libraries

HOST = paths.TOP / "scripts/host"
LIMIT, SNP_INIT = 6, 20  # seconds


@functools.cache
def run(how: str):
    # udev looks for libkmod itself.
    kmod = str(next(Path("/usr/lib/x86_64-linux-gnu").glob("libkmod.so.2")))
    needed = {kmod} | libraries("/usr/bin/udevadm") | libraries(kmod)
    files = {re.sub(r"^/(lib|lib64)/", r"usr/\1/", library).lstrip("/"): Path(library) for library in needed}
    files |= {"usr/bin/udevadm": Path("/usr/bin/udevadm"), "usr/bin/systemd-udevd": Path("/usr/bin/udevadm")}
    files |= {"usr/lib/udev/rules.d/80-drivers.rules": Path("/usr/lib/udev/rules.d/80-drivers.rules")}
    files |= {f"host/{name}": HOST / name for name in ("kvm-amd.conf", "kvm-amd.service")}
    result = boot(
        "slow-udev.sh", how, str(LIMIT), psp=[f"--fault=SNP_INIT_EX@1:delay={1000 * SNP_INIT}"], files=files, limit=240
    )
    assert result.status == 0, result.lines
    return result


def test_udev():
    """udev complains of both CPUs' events and kills its workers, which end when SNP_INIT does; kvm_amd is loaded all
    the same, and SNP is up."""
    result = run("udev")
    assert values(result, "pending") and values(result, "pending")[0].startswith("SNP_INIT_EX")
    said = values(result, "udevd")
    for text in ("is taking a long time", "killed", "terminated by signal 9 (KILL)"):
        assert sum(line.endswith(text) or f"{text}." in line for line in said) == 2, said
    assert values(result, "snp") == ["Y", "Y"] and values(result, "state") == ["enabled"]


def test_unit():
    result = run("unit")
    assert (
        values(result, "early") == [] and values(result, "snp") == ["Y", "Y"] and values(result, "state") == ["enabled"]
    )
    assert not [line for line in values(result, "udevd") if re.search("taking a long time|kill", line)]


def test_unit_is_one():
    """systemd finds nothing wrong with it, and gives it as much time as it takes."""
    run = subprocess.run(["systemd-analyze", "verify", HOST / "kvm-amd.service"], capture_output=True, text=True)
    assert run.returncode == 0 and not run.stderr, run.stderr
    assert "TimeoutStartSec=infinity" in (HOST / "kvm-amd.service").read_text()
