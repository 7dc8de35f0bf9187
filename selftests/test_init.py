# SPDX-License-Identifier: GPL-2.0
"""Initialisation that fails half-way leaves nothing half done."""

import pytest
from conftest import boot, values


def commands(result) -> list[str]:
    return [entry["cmd"] for entry in result.commands() if entry["cmd"] != "SNP_PAGE_RECLAIM"]


@pytest.mark.parametrize("status", ["0x3", "0x13"])
def test_sev_is_stopped_if_its_flush_fails(status):
    """No ASID may be used without the flush, so SEV does not count as started: not for this load of
    kvm-amd and not for the next one."""
    result = boot("init.sh", "twice", psp=[f"--fault=DF_FLUSH:status={status}"])
    assert result.status == 0 and not result.splats(), result.splats()
    assert values(result, "sev") == ["N", "N"]
    trace = commands(result)
    tries = [n for n, cmd in enumerate(trace) if cmd == "INIT"]
    assert len(tries) == 2 and all(trace[n : n + 3] == ["INIT", "DF_FLUSH", "SHUTDOWN"] for n in tries), trace
    assert result.console.count("DF_FLUSH failed") == 2


def test_dead_mailbox_is_noticed_before_cpus_are_prepared():
    """A PSP that fell silent before kvm-amd is loaded: the hotplug window is not opened for it, SNP_EN not
    set. Binding it again makes a new mailbox, and then everything starts."""
    result = boot("init.sh", "dead")
    assert result.status == 0 and not result.splats(), result.splats()
    assert values(result, "sev") == ["N", "Y"] and values(result, "state") == ["closed", "enabled"]
    assert values(result, "snp_en") == ["", "0-1"]
    assert result.console.count("SNP and SEV cannot be started") == 1
