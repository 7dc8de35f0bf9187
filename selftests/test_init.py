# SPDX-License-Identifier: GPL-2.0
"""Initialisation that fails half-way leaves nothing half done."""

import functools
import re

import pytest
from conftest import boot, in_turn, values
from vmlib import health, suite


def part(result, mark: str) -> list[tuple[str, int]]:
    """Commands and their statuses from a mark to the next, without what takes pages back."""
    sections = suite.sections(result.trace, r"(\S+)", lambda entry: entry.get("text", ""))
    return [
        (entry["cmd"], entry["status"])
        for entry in sections[mark]
        if "cmd" in entry and entry["cmd"] != "SNP_PAGE_RECLAIM"
    ]


def commands(result) -> list[str]:
    return [entry["cmd"] for entry in result.commands() if entry["cmd"] != "SNP_PAGE_RECLAIM"]


# What is wrong with legacy SEV; what the two legacy guests find; what firmware is asked for each of them.
LAUNCH = ["LAUNCH_START", "ACTIVATE", "DEACTIVATE", "DECOMMISSION"]
ALONE = {
    "INIT refused once": ({}, ["INIT@1:status=0x13"], ["0 error=0"] * 2, [["INIT", "DF_FLUSH", *LAUNCH], LAUNCH]),
    "INIT refused": ({}, ["INIT:status=0x13"], ["EIO error=0x13"] * 2, [["INIT"]] * 2),
    "init_ex_path": ({"append": "ccp.init_ex_path=/dev"}, [], ["EINVAL error=0xffffffff"] * 2, [[]] * 2),
}
# While kvm-amd is loaded, and while it is unloaded.
SILENT = {"SNP_DF_FLUSH": "N", "INIT": "N", "SHUTDOWN": "Y", "SNP_SHUTDOWN_EX": "Y"}
FLUSH_FAILS = ["0x3", "0x13"]
# The words of vm/init.sh, and what must be found. After the last one SEV cannot be stopped any more.
IN_TURN = {
    **{f"flush-{status}": (["twice", f"DF_FLUSH:status={status}"], {}) for status in FLUSH_FAILS},
    **{name: (["alone", *fault], {}) for name, (machine, fault, *_) in ALONE.items() if not machine},
    "dead": (["dead"], {"expects": (" 1 lost so far",)}),
    "left": (["left", *SILENT], {"expects": ("are lost until",)}),
    "rebound": (["rebound"], {"expects": ("are lost until",)}),
    "demand": (["demand"], {}),
    "refuse": (["refuse", "SHUTDOWN:status=0x12"], {"allows": health.LEFT}),
}


@functools.cache
def in_one_machine() -> dict[str, suite.Outcome]:
    cases = [suite.Case(name.replace(" ", "-"), " ".join(words), **more) for name, (words, more) in IN_TURN.items()]
    return in_turn("init.sh", cases, limit=240)


def taken(name: str) -> suite.Outcome:
    outcome = in_one_machine()[name.replace(" ", "-")]
    assert not outcome.failure, outcome.failure
    return outcome


@pytest.mark.parametrize("status", FLUSH_FAILS)
def test_sev_is_stopped_if_its_flush_fails(status):
    """No ASID may be used without the flush, so SEV does not count as started: not for this load of
    kvm-amd and not for the next one. SNP does not depend on it."""
    result = taken(f"flush-{status}")
    assert values(result, "sev") == ["Y", "Y"] and values(result, "state") == ["enabled", "enabled"]
    trace = commands(result)
    tries = [n for n, cmd in enumerate(trace) if cmd == "INIT"]
    assert len(tries) == 2 and all(trace[n : n + 3] == ["INIT", "DF_FLUSH", "SHUTDOWN"] for n in tries), trace
    assert [entry["status"] for entry in result.commands() if entry["cmd"] == "SNP_SHUTDOWN_EX"].count(0) == 2
    assert result.console.count("DF_FLUSH failed") == 2


@pytest.mark.parametrize("name", ALONE)
def test_snp_does_without_legacy_sev(name):
    """Legacy SEV cannot be started when kvm-amd is loaded: SNP guests run, the first legacy command gets the
    error, and nothing is left afterwards."""
    machine, fault, starts, asked = ALONE[name]
    if machine:
        result = boot("init.sh", "alone", *fault, **machine)
        assert result.status == 0 and result.rmp["assigned"] == 0, result.lines
    else:
        result = taken(name)
        assert result.evidence.left == 0, result.lines
    assert values(result, "offers") == ["Y Y"]
    assert values(result, "loaded") == ["enabled 0-1"] and [value.strip() for value in values(result, "unloaded")] == [
        "closed"
    ]
    launches = [value for value in values(result, "launch") if value.startswith(("finish", "start", "init2"))]
    assert launches[:3] == ["init2 0 error=0", "start 0 error=0", "finish 0 error=0"]
    assert [value.removeprefix("start ") for value in launches[4::2]] == starts
    assert guests(result, "sev-guest") == asked
    # Once when kvm-amd is loaded, and for each guest that asks again.
    refused = "SEV stays off: /dev of init_ex_path cannot be read (EINVAL)"
    why = "INIT failed: HWERROR_PLATFORM (0x13)" if fault else refused
    assert result.console.count(why) == 1 + sum(not start.startswith("0") for start in starts)
    assert result.console.count("SNP goes on without legacy SEV") == 1


def guests(result, mark: str) -> list[list[str]]:
    """What was asked of firmware after each mark of this name, without what takes pages back."""
    out, inside = [], False
    for entry in result.trace:
        if "text" in entry:
            inside = entry["text"] == mark
            out += [[]] if inside else []
        elif inside and entry.get("cmd", "SNP_PAGE_RECLAIM") != "SNP_PAGE_RECLAIM":
            out[-1].append(entry["cmd"])
    return out


@pytest.mark.parametrize("case", ["back", "flaw"])
def test_legacy_guests_where_snp_cannot_start_any_more(case):
    """SNP is not started for a VM: KVM uses the CPUs by then. No CPU has SNP_EN, so legacy SEV runs."""
    result = boot("init.sh", case, segments=30 if case == "flaw" else 0)
    assert result.status == 0, result.lines
    assert values(result, "offers") == ["Y N"] and [value.strip() for value in values(result, "loaded")] == ["closed"]
    launches = [value for value in values(result, "launch") if value.startswith(("start", "init2"))]
    assert launches == ["init2 0 error=0", "start 0 error=0"]
    assert [cmd for cmd, _ in part(result, "sev-guest")] == ["INIT", "DF_FLUSH", *LAUNCH]
    assert "EFER.SVME" not in result.console
    # The gap is found with the window open, when kvm-amd is loaded; the offline CPU before.
    assert result.console.count("hotplug window opened") == (case == "flaw")


# What keeps a host free of SNP; what kvm-amd offers then.
NO_SNP = {"ccp.snp=0": "Y N", "sev=nosnp": "Y N", "kvm_amd.sev=0": "N N"}


@pytest.mark.parametrize("parameter", NO_SNP)
def test_hosts_that_do_not_want_snp(parameter):
    """No CPU gets SNP_EN, CPUs come and go, and the host can be suspended; legacy SEV works unless it was switched
    off as well."""
    result = boot("window.sh", "+kvm_amd", "offers", "suspend", "sev-guest", "-kvm_amd", append=parameter)
    assert result.status == 0, result.lines
    assert values(result, "offers") == [NO_SNP[parameter]]
    legacy = NO_SNP[parameter].startswith("Y")
    assert values(result, "did") == [
        "+kvm_amd done",
        "offers done",
        "suspend done",
        f"sev-guest {'done' if legacy else 'failed'}",
        "-kvm_amd done",
    ]
    assert {line.strip().split(" ", 1)[1] for line in values(result, "after")} == {"closed 0 allowed cpus="}
    assert not [cmd for cmd in commands(result) if cmd in ("SNP_INIT", "SNP_INIT_EX")]
    assert ("LAUNCH_START" in commands(result)) == legacy
    assert result.console.count("SNP stays off: ccp was loaded with snp=0") == (parameter == "ccp.snp=0")


def test_dead_mailbox_is_noticed_before_cpus_are_prepared():
    """A PSP that fell silent before kvm-amd is loaded: the hotplug window is not opened for it, SNP_EN not
    set. Binding it again makes a new mailbox, and then everything starts."""
    result = taken("dead")
    assert values(result, "sev") == ["N", "Y"] and values(result, "state") == ["closed", "enabled"]
    assert values(result, "snp_en") == ["", "0-1"]
    assert result.console.count("SNP and SEV cannot be started") == 1


@pytest.mark.parametrize("shutdown", ["x86", "legacy"])
def test_firmware_that_was_left_initialised(shutdown):
    """After a time-out the driver cannot stop SNP firmware. When it is loaded again and firmware answers, it
    takes it over, stops it and starts it anew; and then nothing is left of it."""
    if shutdown == "legacy":
        result = boot("init.sh", "left", *SILENT, shutdown=shutdown, limit=240, expects=("are lost until",))
        assert result.status == 0, result.lines
    else:
        result = taken("left")
    assert values(result, "sev") == [offered for command in SILENT for offered in (SILENT[command], "Y")]
    assert values(result, "found") == ["held 0-1"] * len(SILENT)
    assert [value.strip() for value in values(result, "stopped")] == [
        "held 0-1" if shutdown == "legacy" else "closed"
    ] * len(SILENT)
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
    result = taken("rebound")
    launch = values(result, "launch")
    assert launch[-1].startswith("init2 EBUSY ") and values(result, "sev") == ["Y"]
    assert values(result, "found") == ["held 0-1"] and [value.strip() for value in values(result, "stopped")] == [
        "closed"
    ]
    assert (
        result.console.count(
            "SNP and SEV cannot be started: firmware was left initialised, and guests may depend on it"
        )
        == 1
    )


def test_sev_on_demand():
    """psp_init_on_probe=0: legacy SEV is started by the first guest that needs it, and its error is that
    guest's. An SNP guest does without."""
    result = taken("demand")
    cmds = {
        mark: [cmd for cmd, _ in part(result, mark)] for mark in ("load", "snp-guest", "refused", "sev-guest", "end")
    }
    assert "SNP_INIT_EX" in cmds["load"] and "INIT" not in cmds["load"]
    assert "SNP_LAUNCH_FINISH" in cmds["snp-guest"] and "INIT" not in cmds["snp-guest"]
    assert part(result, "refused") == [("INIT", 0x13)]
    assert cmds["sev-guest"] == ["INIT", "DF_FLUSH", "LAUNCH_START", "ACTIVATE", "DEACTIVATE", "DECOMMISSION"]
    launches = [value for value in values(result, "launch") if value.startswith(("init2", "start"))]
    assert launches == [
        "init2 0 error=0",
        "start 0 error=0",
        "init2 0 error=0",
        "start EIO error=0x13",
        "init2 0 error=0",
        "start 0 error=0",
    ]
    assert cmds["end"][-2:] == ["SHUTDOWN", "SNP_SHUTDOWN_EX"]


def test_snp_is_not_blamed_for_sev():
    """SNP cannot be stopped beside SEV: that is said, and not that something is wrong with SNP."""
    result = taken("refuse")
    said = [
        line.partition(": ")[2] for line in result.console.splitlines() if re.search(r"ccp 0000:41.*SHUTDOWN", line)
    ]
    once = [
        r"SHUTDOWN failed: ACTIVE \(0x12\)",
        r"SNP_SHUTDOWN_EX failed: INVALID_PLATFORM_STATE \(0x1\): firmware stops SNP only after SEV, and that could "
        r"not be stopped; SNP stays initialised",
    ]
    # When kvm-amd is unloaded, and once more when the device goes.
    assert len(said) == 4 and all(re.match(pattern, line) for pattern, line in zip(once * 2, said)), said
    assert "SEV INIT with SNP_EN set" not in result.console


@pytest.mark.parametrize("driver", ["ours", "intree"])
def test_no_sev_es_next_to_snp_with_firmware_that_forbids_it(driver, long):
    """AMD-SB-3023: on Milan from SNP's security version 0x1b on. kvm-amd takes what firmware allows."""
    if driver == "intree" and not long:
        pytest.skip("seldom changes; 'make test-long' does it")
    offers = {}
    for version in (0x1A, 0x1B):
        result = boot("load.sh", driver=driver, psp=[f"--tcb=db{version:02x}000000000004"])
        assert result.status == 0, result.lines
        offers[version] = re.findall(r"kvm_amd: (SEV\S*) (\w+) \(ASIDs", result.console)
    allowed = [("SEV", "enabled"), ("SEV-ES", "enabled"), ("SEV-SNP", "enabled")]
    assert offers == {0x1A: allowed, 0x1B: [allowed[0], ("SEV-ES", "unusable"), allowed[2]]}
