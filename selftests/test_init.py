# SPDX-License-Identifier: GPL-2.0
"""Initialisation that fails half-way leaves nothing half done."""

import re

import pytest
from conftest import boot, values
from vmlib import suite


def part(result, mark: str) -> list[tuple[str, int]]:
    """Commands and their statuses from a mark to the next, without what takes pages back."""
    sections = suite.sections(result.trace, r"(\S+)", lambda entry: entry.get("text", ""))
    return [(entry["cmd"], entry["status"]) for entry in sections[mark] if "cmd" in entry and entry["cmd"] != "SNP_PAGE_RECLAIM"]


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


# While kvm-amd is loaded, and while it is unloaded.
SILENT = {"SNP_DF_FLUSH": "N", "INIT": "N", "SHUTDOWN": "Y", "SNP_SHUTDOWN_EX": "Y"}


@pytest.mark.parametrize("shutdown", ["x86", "legacy"])
def test_firmware_that_was_left_initialised(shutdown):
    """After a time-out the driver cannot stop SNP firmware. When it is loaded again and firmware answers, it
    takes it over, stops it and starts it anew; and then nothing is left of it."""
    result = boot("init.sh", "left", *SILENT, psp=[f"--shutdown={shutdown}"], limit=240)
    assert result.status == 0 and not result.splats(), result.splats()
    assert values(result, "sev") == [offered for command in SILENT for offered in (SILENT[command], "Y")]
    assert values(result, "found") == ["held 0-1"] * len(SILENT)
    assert [value.strip() for value in values(result, "stopped")] == ["held 0-1" if shutdown == "legacy" else "closed"] * len(SILENT)
    for command in SILENT:
        trace = part(result, f"after-{command}")
        # Firmware wants a page of its own for the answer, and a flush before it stops if there was none.
        assert trace[:2] == [("SNP_PLATFORM_STATUS", 0x1A), ("SNP_PLATFORM_STATUS", 0)]
        stopped = trace.index(("SNP_SHUTDOWN_EX", 0))
        assert stopped < [cmd for cmd, _ in trace].index("SNP_INIT_EX")
        assert {status for cmd, status in trace[2:] if (cmd, status) != ("SNP_SHUTDOWN_EX", 0xF)} == {0}, trace
        # Only then SEV had been started, but not stopped.
        assert (("SHUTDOWN", 0) in trace[:stopped]) == (command == "SHUTDOWN")
    assert result.console.count("SNP firmware was left initialised, with 0 guest(s)") == len(SILENT)
    # What a load has lost stays lost, and can be read.
    said = re.findall(r"(\d+) lost so far", result.console)
    assert values(result, "lost")[-1] == said[-1]


def test_guests_may_depend_on_what_was_left():
    """KVM is still there, perhaps with guests, so firmware is not stopped for a new one; it is when KVM goes."""
    result = boot("init.sh", "rebound")
    assert result.status == 0 and not result.splats(), result.splats()
    launch = values(result, "launch")
    assert launch[-1].startswith("init2 EBUSY ") and values(result, "sev") == ["Y"]
    assert values(result, "found") == ["held 0-1"] and [value.strip() for value in values(result, "stopped")] == ["closed"]
    assert result.console.count("SNP and SEV cannot be started: firmware was left initialised, and guests may depend on it") == 1


def test_sev_on_demand():
    """psp_init_on_probe=0: legacy SEV is started by the first guest that needs it, and its error is that
    guest's. An SNP guest does without."""
    result = boot("init.sh", "demand")
    assert result.status == 0 and not result.splats(), result.splats()
    cmds = {mark: [cmd for cmd, _ in part(result, mark)] for mark in ("load", "snp-guest", "refused", "sev-guest", "end")}
    assert "SNP_INIT_EX" in cmds["load"] and "INIT" not in cmds["load"]
    assert "SNP_LAUNCH_FINISH" in cmds["snp-guest"] and "INIT" not in cmds["snp-guest"]
    assert part(result, "refused") == [("INIT", 0x13)]
    assert cmds["sev-guest"] == ["INIT", "DF_FLUSH", "LAUNCH_START", "ACTIVATE", "DEACTIVATE", "DECOMMISSION"]
    launches = [value for value in values(result, "launch") if value.startswith(("init2", "start"))]
    assert launches == ["init2 0 error=0", "start 0 error=0", "init2 0 error=0", "start EIO error=0x13", "init2 0 error=0", "start 0 error=0"]
    assert cmds["end"][-2:] == ["SHUTDOWN", "SNP_SHUTDOWN_EX"]


def test_snp_is_not_blamed_for_sev():
    """SNP cannot be stopped beside SEV: that is said, and not that something is wrong with SNP."""
    result = boot("init.sh", "refuse", "SHUTDOWN:status=0x12")
    said = [line.partition(": ")[2] for line in result.console.splitlines() if re.search(r"ccp 0000:41.*SHUTDOWN", line)]
    once = [
        r"SHUTDOWN failed: ACTIVE \(0x12\)",
        r"SNP_SHUTDOWN_EX failed: INVALID_PLATFORM_STATE \(0x1\): firmware stops SNP only after SEV, and that could not be stopped; SNP stays initialised",
    ]
    # When kvm-amd is unloaded, and once more when the device goes.
    assert len(said) == 4 and all(re.match(pattern, line) for pattern, line in zip(once * 2, said)), said
    assert "SEV INIT with SNP_EN set" not in result.console
