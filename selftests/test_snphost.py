# SPDX-License-Identifier: GPL-2.0
"""The commands of snphost that ask firmware say the same on both drivers. (import, export and verify work on files,
fetch on the network.)"""

import functools

import pytest
from conftest import boot, values
from vmlib import host_check, paths


@functools.cache
def run(driver: str) -> tuple[dict[str, int], list[str]]:
    """The statuses, and all that was said."""
    psp = ["--tcb=db16000000000004", "--committed-tcb=db14000000000004"]
    files = host_check.libraries(paths.SNPHOST) | {"usr/bin/snphost": paths.SNPHOST}
    result = boot("snphost.sh", driver=driver, psp=psp, files=files, limit=240)
    assert result.status == 0, result.lines
    return {name: int(status) for name, status in map(str.split, values(result, "host"))}, values(result, "out")


# Not up; reports have an older TCB than firmware; more than there is; nobody's VLEK.
REFUSED = {"loaded-ok", "up-ok", "up-config-too-high", "up-vlek-load"}


def test_commands():
    statuses, out = run("ours")
    assert len(statuses) == 23 and {name for name, status in statuses.items() if status} == REFUSED, out
    said = {name: [line.split(" ", 1)[1] for line in out if line.startswith(f"{name} ")] for name in statuses}
    assert said["up-guests"] == ["0"] and said["up-one-guest"] == ["1"]
    assert said["up-tcb-newer"] == said["up-tcb-reset"], said
    reported = {name: lines[:6] for name, lines in said.items()}
    assert reported["up-tcb-older"] == reported["up-tcb"] != reported["up-tcb-newer"], said
    assert [line for line in said["up-ok"] if "FAIL" in line] == [line for line in said["up-ok"] if "Comparing" in line]


def test_the_same_as_in_tree(long):
    if not long:
        pytest.skip("only in test-long")
    assert run("ours") == run("intree")
