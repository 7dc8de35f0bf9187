# SPDX-License-Identifier: GPL-2.0
"""Many clients at once, any of which may be killed at any moment, on the debug kernel: everything ends as it
must and in time, and nothing is left. And what needs no firmware does not wait for it."""

from functools import cache

import pytest
from conftest import boot, values

# How many, and for how many seconds.
SAMPLE, LONG = (30, 4), (200, 600)
# Milliseconds. All clients may be before one in the queue for the command lock, with launches of many commands; and the
# CPUs are few and slow.
LONGEST = 300_000
# KVM has no ASID left.
REFUSED = {"init2 EBUSY"}
# KVM wants its lock held when it takes apart a VM that it could not finish, because its maker was killed.
UNFINISHED = r"WARNING: arch/x86/kvm/svm/sev\.c:\d+ at sev_vm_destroy"


@cache
def run(clients: int, seconds: int):
    result = boot("clients.sh", str(clients), str(seconds), kernel="debug", limit=seconds + 180, allows=(UNFINISHED,))
    assert result.status == 0, result.lines
    return result


@pytest.fixture
def result(long):
    return run(*(LONG if long else SAMPLE))


def did(result) -> dict[str, tuple[int, int, int, str]]:
    rows = (line.split() for line in values(result, "did"))
    return {name: (int(done), int(failed), int(longest), why) for name, done, failed, longest, why in rows}


def test_all_is_done(result, note):
    things = did(result)
    (killed, busy), = (map(int, line.split()) for line in values(result, "clients"))
    assert len(things) == 17 and all(done for done, *_ in things.values()), things
    assert killed > 3 and busy > 1
    wrong = {name: row for name, row in things.items() if row[1] and name not in ("snp-guest", "sev-guest")}
    assert not wrong, wrong
    refused = [line.split(None, 1)[1] for line in values(result, "wrong")]
    assert {" ".join(line.split()[:2]) for line in refused} <= REFUSED, refused
    note(f"{sum(row[0] for row in things.values())} things done, {killed} clients killed, {busy} of them at something")


def test_waits_are_bounded(result):
    longest = {name: row[2] for name, row in did(result).items()}
    assert all(ms < LONGEST for ms in longest.values()), longest


def test_nothing_is_left(result):
    assert values(result, "left") == ["clients 0"] and values(result, "lost") == ["0"]
    state = values(result, "state")
    assert {"mailbox: idle", "SNP guests: 0", "ASIDs of SNP guests:", "ASIDs of SEV guests:"} <= set(state), state
    assert [line for line in values(result, "launch")][-1] == "finish 0 error=0"
    assert result.rmp["assigned"] == 0


def test_what_needs_no_firmware_does_not_wait(result, note):
    """While a command takes 20 s."""
    assert [line.split()[0] for line in values(result, "still")] == ["PLATFORM_STATUS"], values(result, "still")
    note(f"{values(result, 'quick')[0]} tenths of a second for files and calls that need no firmware")
    assert any(line.startswith("mailbox: PLATFORM_STATUS, for ") for line in values(result, "while"))
    refused = {line.split()[0]: line.split()[1] for line in values(result, "ioctl")}
    assert len(refused) > 12 and set(refused.values()) == {"EINVAL", "EFAULT", "EPERM"}, refused
    (answer,) = values(result, "slow")
    assert answer.startswith("platform-status 0 error=0 ")
