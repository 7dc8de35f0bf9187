# SPDX-License-Identifier: GPL-2.0
"""Several PSPs, of different generations; PSPs that come and go under KVM; reboot with SNP up.

The master is 0000:41:00.0, the other PSP 0000:61:00.0.
"""

import functools
import re

import pytest
from conftest import boot, in_turn, module, values
from vmlib import suite


def after(result) -> list[str]:
    return values(result, "after")


def commands(trace: list[dict]) -> list[str]:
    return [entry["cmd"] for entry in trace if "cmd" in entry]


def lowest(last: str) -> list[str]:
    # What is removed and found again comes last in the PCI core's list.
    steps = [f"remove:{last}", "rescan", "+kvm_amd", "unbind:61", "bind:61", "remove:61", "guest", "end", "-kvm_amd"]
    return [*steps, "-ccp", "rescan"]


# What is done with two PSPs, the master's last.
TWO = {
    "another": ["+kvm_amd", "unbind:41", "-kvm_amd", "+kvm_amd", "bind:41", "-kvm_amd", "+kvm_amd", "-kvm_amd", "-ccp"],
    "stays": [
        "+kvm_amd", "unbind:41", "calls", "unbind:61", "bind:61", "-kvm_amd", "+kvm_amd", "bind:41", "-kvm_amd",
        "+kvm_amd", "-kvm_amd", "-ccp",
    ],
    "silent": [
        "order:fault,SNP_PLATFORM_STATUS@1:silent", "+ccp", "unbind:61", "bind:61", "unbind:41", "bind:41",
        "order:clear", "unbind:41", "bind:41", "-ccp",
    ],
    "gone": [
        "+kvm_amd", "remove:41", "unbind:61", "bind:61", "-kvm_amd", "-ccp", "+ccp", "+kvm_amd", "guest", "end",
        "-kvm_amd", "-ccp",
    ],
}  # fmt: skip
LOST = {"silent": (" 1 lost so far", " 2 lost so far")}


@functools.cache
def two_psps() -> dict[str, suite.Outcome]:
    cases = [suite.Case(name, " ".join(steps), expects=LOST.get(name, ())) for name, steps in TWO.items()]
    return in_turn("psps.sh", cases, limit=180, other_psps=[[]])


@functools.cache
def generations(master: str, other: str) -> dict[str, suite.Outcome]:
    cases = [suite.Case(last, " ".join(lowest(last))) for last in ("61", "41")]
    return in_turn("psps.sh", cases, limit=180, psp=[f"--device={master}"], other_psps=[[f"--device={other}"]])


def healthy(outcome: suite.Outcome) -> suite.Outcome:
    assert not outcome.failure and outcome.evidence.left == 0, outcome.failure
    return outcome


@pytest.mark.parametrize("last", ["41", "61"])
@pytest.mark.parametrize("devices", [("1486", "14ca"), ("17d8", "1456")], ids="-".join)
def test_lowest_address_is_master(devices, last):
    """Whichever is probed first, and whatever becomes of the other."""
    result = healthy(generations(*devices)[last])
    before = "none no-node"
    up, closed = "enabled node", "closed no-node"
    states = [before, before, up, up, up, up, up, up, "closed node", closed, closed]
    assert after(result) == [f"{step} done {state}" for step, state in zip(lowest(last), states, strict=True)]
    probed = re.findall(r"ccp 0000:(..):00\.0: SEV enabled", result.console)
    assert probed[:2] == (["61", "41"] if last == "41" else ["41", "61"]) and len(probed) == 3
    assert "SNP_LAUNCH_FINISH" in commands(result.trace)
    assert [commands(trace) for trace in result.other_traces] == [[]]


def test_no_other_takes_the_masters_place():
    """Firmware keeps its state in the PSP that it was given to."""
    result = healthy(two_psps()["another"])
    states = ["enabled node", *["closed node"] * 5, "enabled node", "closed node", "closed no-node"]
    assert after(result) == [f"{step} done {state}" for step, state in zip(TWO["another"], states, strict=True)]
    assert [commands(trace) for trace in result.other_traces] == [[]]


def test_the_master_stays_the_master():
    """Whatever is bound while it is not: only binding it again brings SEV back. Until then there is no device for any
    call of /dev/sev, good or bad."""
    result = healthy(two_psps()["stays"])
    up, closed, gone = "enabled node", "closed node", "closed no-node"
    states = [up, closed, closed, gone, *[closed] * 5, up, closed, gone]
    assert after(result) == [f"{step} done {state}" for step, state in zip(TWO["stays"], states, strict=True)]
    assert values(result, "answers") == ["ENODEV"]
    assert (
        result.console.count("ccp 0000:61:00.0: this PSP is not the master, which is not bound or does not answer") == 1
    )
    assert [commands(trace) for trace in result.other_traces] == [[]]


def test_the_master_is_gone_for_good():
    """Then another one is chosen when ccp is loaded anew, as the line says where it stands in Documentation."""
    result = healthy(two_psps()["gone"])
    closed, gone, up = "closed node", "closed no-node", "enabled node"
    states = [up, closed, gone, closed, closed, gone, closed, up, up, up, closed, gone]
    assert after(result) == [f"{step} done {state}" for step, state in zip(TWO["gone"], states, strict=True)]
    assert (
        result.console.count("ccp 0000:61:00.0: this PSP is not the master, which is not bound or does not answer") == 1
    )
    assert commands(result.trace)[-1] == "SNP_SHUTDOWN_EX" and "SNP_LAUNCH_FINISH" not in commands(result.trace)
    assert "SNP_LAUNCH_FINISH" in commands(result.other_traces[0])


def test_a_silent_master_is_not_asked_again():
    """It may still be at work on what it was asked; binding it anew gives it time to answer, and nothing else."""
    result = healthy(two_psps()["silent"])
    assert [value.split()[1] for value in after(result)] == ["done"] * len(TWO["silent"])
    # In the end it is asked for its status, and then for more.
    assert (
        commands(result.trace).count("SNP_PLATFORM_STATUS") == 2 and commands(result.trace)[-1] != "SNP_PLATFORM_STATUS"
    )
    assert commands(result.trace)[:2] == ["SNP_PLATFORM_STATUS"] * 2
    assert result.console.count("the firmware could not be identified") == 2
    assert [commands(trace) for trace in result.other_traces] == [[]]


@functools.cache
def taken_away():
    """The PSP is unbound under an SNP guest."""
    steps = [
        "+kvm_amd",
        "guest",
        "unbind:41",
        "exports",
        "end",
        "bind:41",
        "-kvm_amd",
        "+kvm_amd",
        "guest",
        "end",
        "-kvm_amd",
        "-ccp",
    ]
    result = boot(
        "psps.sh",
        *steps,
        files={"kapi_test.ko": module("kapi_test")},
        limit=180,
        # KVM's own remark that it could not end the guest properly; its context, and KVM's page for answers.
        expects=("snp_decommission_context", " 1 lost so far", " 2 lost so far"),
    )
    assert result.status == 0, result.lines
    return steps, result


def test_host_survives_psp_taken_from_a_guest():
    """SNP_EN stays set, as KVM gives the guest's pages back with RMPUPDATE; the next SNP ends it."""
    steps, result = taken_away()
    gone = "held no-node"
    states = (
        ["enabled node"] * 2 + [gone] * 3 + ["held node"] * 2 + ["enabled node"] * 3 + ["closed node", "closed no-node"]
    )
    assert after(result) == [f"{step} done {state}" for step, state in zip(steps, states)]
    assert result.rmp["assigned"] == 0


def test_exports_without_a_psp():
    rows = [value.split() for value in values(taken_away()[1], "kapi")]
    results = {row[0]: row[1] for row in rows}
    nodev = ["get-id-query", "get-id", "get-id-short", "pdh-query", "guest-pages", "launch-measure"]
    nodev += ["init-again", "platform-status", "activate", "deactivate", "decommission"]
    assert {name: results[name] for name in nodev} == dict.fromkeys(nodev, "-19")
    assert results["policy-bits"] == "0x0" and results["ciphertext-hiding"] == "0"
    assert "firmware-page" not in results, "a page for firmware without firmware"
    # What was not a question to firmware has left no status behind.
    assert {row[2] for row in rows if row[0] in ("get-id-query", "activate")} == {"0x5555"}


def test_firmwares_pages_are_kept():
    """The guest's context and KVM's page for guest requests stay firmware's, and it is said once."""
    steps, result = taken_away()
    console = result.console
    assert (
        len(
            re.findall(
                r"ccp: 1 page\(s\) from .* are lost .*: they were firmware's when their owner went away", console
            )
        )
        == 2
    )
    assert len(re.findall(r"ccp 0000:41:00\.0: released while SNP or SEV was initialised", console)) == 1
    trace = commands(result.trace)
    ended = trace.index("SNP_SHUTDOWN_EX")
    context = next(entry["gctx"] for entry in result.trace if entry.get("cmd") == "SNP_GCTX_CREATE")
    reclaimed = [entry["page"] for entry in result.commands()[: ended + 1] if entry["cmd"] == "SNP_PAGE_RECLAIM"]
    assert context not in reclaimed


@pytest.mark.parametrize("step", ["idle", "guest"])
def test_reboot(driver, step):
    """Firmware is shut down before the machine restarts: SEV, then SNP, which the in-tree driver
    cannot under a guest."""
    # KVM may remark that its guest was taken away.
    left = {"idle": (), "ours": (" 1 lost so far", " 2 lost so far", "^RMP: 4 "), "intree": ("^RMP: 135 ",)}[
        driver if step == "guest" else step
    ]
    remark = ("snp_decommission_context",) * (step == "guest")
    result = boot("reboot.sh", step, driver=driver, expects=left, allows=remark)
    assert result.status == 0, result.lines
    assert "reboot: Restarting system" in result.console
    end = {
        "idle": [("SNP_SHUTDOWN_EX", 0)],
        "ours": [("SNP_DECOMMISSION", 0), ("SNP_SHUTDOWN_EX", 0xF), ("SNP_DF_FLUSH", 0), ("SNP_SHUTDOWN_EX", 0)],
        "intree": [("SNP_SHUTDOWN_EX", 0xF), ("SNP_DF_FLUSH", 0), ("SNP_SHUTDOWN_EX", 0xF)],
    }[driver if step == "guest" else step]
    # In between the TMR is taken back, page by page.
    told = [(entry["cmd"], entry["status"]) for entry in result.commands() if entry["cmd"] != "SNP_PAGE_RECLAIM"]
    assert told[-len(end) - 1 :] == [("SHUTDOWN", 0), *end]
