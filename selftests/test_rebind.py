# SPDX-License-Identifier: GPL-2.0
"""The PSP is unbound and bound again: under kvm-amd, while it owes an answer, after a reset of its function."""

import functools
import re
import tempfile
from pathlib import Path

import pytest
from conftest import boot, in_turn, values
from vmlib import health, launch, suite


@functools.cache
def rebind():
    with tempfile.TemporaryDirectory() as scratch:
        files = launch.guest_files(Path(scratch))
        result = boot("rebind.sh", files={f"guest/{name}": file for name, file in files.items()}, limit=180)
    assert result.status == 0, result.lines
    return result


def test_nothing_breaks():
    assert rebind().rmp["assigned"] == 0
    assert values(rebind(), "node") == [], "a file of what is gone"
    assert values(rebind(), "open") == ["Resource temporarily unavailable"] * 4


def test_snp_is_not_started_under_a_running_kvm():
    """Preparing the CPUs clears VM_HSAVE_PA, which KVM has set for the CPUs it uses. When kvm-amd asks
    for a VM, KVM has enabled SVM; only loading kvm-amd anew starts SNP again, as the message says."""
    launched = dict(value.split()[:2] for value in values(rebind(), "launched"))
    assert launched == {"rebound": "unknown", "reloaded": "internal-error"}
    assert values(rebind(), "between") == ["closed"]
    said = [
        line
        for line in rebind().console.splitlines()
        if (
            "no SNP guest can be made: SNP was not initialised since the PSP was bound; end all guests and reload "
            "kvm_amd"
        )
        in line
    ]
    assert len(said) == 1


LATE = {
    "+ccp": "done", "psp_cmd_timeout=2": "done", "order:fault,PLATFORM_STATUS@1:silent": "done", "status": "failed",
    # snp_host knows, and stays.
    "-ccp": "done", "-snp_host": "failed", "+ccp ": "done", "status ": "failed",
    # A second binding, and one that finds registers that were reset.
    "unbind:41": "done", "bind:41": "done", "order:reset,registers": "done",
    "unbind:41 ": "done", "bind:41 ": "done", "status  ": "failed",
    "order:clear": "done", "unbind:41  ": "done", "bind:41  ": "done", "status   ": "done",
    "-ccp ": "done", "-snp_host ": "done",
}  # fmt: skip
# Late: an answer that is there before the driver sleeps needs no interrupt.
ONCE = "order:fault,PLATFORM_STATUS@1:no-irq,PLATFORM_STATUS@1:late=100"
REMEDY = ["psp_cmd_timeout=30", "unbind:41", "bind:41", "status", "-ccp", "-snp_host"]
RESETS = ["reset-bus:41", "reset-pm:41", "order:reset,function", "order:reset,firmware", "order:reset,registers"]
# Case -> the steps (vm/psps.sh), and how many pages the driver says that it has lost so far, each time.
STEPS = {
    "late": ([step.strip() for step in LATE], (1,)),
    "during": (
        [
            "+ccp", "psp_cmd_timeout=2", "psp_probe_timeout=120",
            "order:fault,PLATFORM_STATUS@1:delay=12000,SNP_PLATFORM_STATUS@1:delay=3000",
            "status", "unbind:41", "bind:41", "status", "+kvm_amd", "-kvm_amd", "-ccp", "-snp_host",
        ],
        (1,),
    ),
    "slow": (
        ["+ccp", "psp_cmd_timeout=2", "order:fault,PLATFORM_STATUS:delay=4000", "status", "status", *REMEDY],
        (1,),
    ),
    # The page of the command that was not answered; the TMR, KVM's page for requests and the guest's context.
    "guests": (
        [
            "+ccp", "psp_cmd_timeout=2", "+kvm_amd", "guest", "order:fault,PLATFORM_STATUS@1:silent", "status",
            "order:clear", "unbind:41", "bind:41", "unbind:41", "bind:41", "end", "-kvm_amd", "+kvm_amd",
            "guest", "end", "-kvm_amd", "-ccp",
        ],
        (1, 513, 514, 515),
    ),
    "interrupt": (
        [
            "+ccp", ONCE, "status", "status", "status", "order:fault,*:no-irq",
            "+kvm_amd", *["status"] * 5, "order:clear", "status", "status", "-kvm_amd", "-ccp",
        ],
        (),
    ),
    # Firmware does not take back the page for the answer that shows that it has lost all others; and the TMR, which
    # the next SNP makes usable.
    **{
        how: (
            ["+kvm_amd", how, "status", "status", "-kvm_amd", "+kvm_amd", "guest", "end", "-kvm_amd", "-ccp"],
            {"order:reset,registers": (), "order:reset,function": (1, 513), "order:reset,firmware": (1, 513)}.get(
                how, (512,)
            ),
        )
        for how in RESETS
    },
}  # fmt: skip


@functools.cache
def all_psps() -> dict[str, suite.Outcome]:
    cases = [
        suite.Case(name, " ".join(steps), expects=tuple(f" {count} lost so far" for count in lost))
        for name, (steps, lost) in STEPS.items()
    ]
    return in_turn("psps.sh", cases, limit=240)


def psps(name: str):
    """A case: (outcome, whether each step was done, how long each took in milliseconds)."""
    outcome = all_psps()[name]
    assert not outcome.failure, outcome.failure
    did = [value.split()[1] for value in values(outcome, "after")]
    took = [int(value.split()[1]) for value in values(outcome, "took")]
    return outcome, did, took


def said(result, text: str) -> int:
    return sum(bool(re.search(rf"ccp 0000:41:00\.0: .*{text}", line)) for line in result.console.splitlines())


OWES = "the PSP still owes the answer to PLATFORM_STATUS, which was issued before this driver was bound"


def test_a_late_answer():
    """Neither another load nor another binding gives the PSP a command before it has answered; which one waits is
    known even where the register has forgotten. When the answer has come everything goes on."""
    result, did, took = psps("late")
    assert did == list(LATE.values()), list(zip(LATE, did))
    assert (
        said(result, f"{OWES}; waiting up to 5 s for it")
        == said(result, f"{OWES}, after another 5 s: the mailbox is dead")
        == 3
    )
    waited = [took[list(LATE).index(step)] for step in ("+ccp ", "bind:41", "bind:41 ")]
    assert min(waited) >= 5000, waited
    # Nothing is lent to a mailbox that is not idle: what is lost is the buffer of the command without an answer.
    assert re.findall(r"ccp: (\d+) page\(s\) from", result.console) == ["1"]
    asked = [entry["cmd"] for entry in result.commands()]
    first = asked.index("PLATFORM_STATUS", asked.index("PLATFORM_STATUS") + 1)
    # The one without an answer, and then a binding that begins at the beginning.
    assert asked[first + 1 : first + 2] == ["SNP_PLATFORM_STATUS"]


def test_an_answer_that_comes_during_the_wait():
    """For which an administrator may ask for more time; its interrupt is not the next command's."""
    result, did, took = psps("during")
    assert did == ["done"] * 4 + ["failed"] + ["done"] * 7
    assert 6000 <= took[STEPS["during"][0].index("bind:41")] < 60000
    assert (
        said(result, f"{OWES}; waiting up to 120 s for it")
        == said(result, "the answer to PLATFORM_STATUS has come: going on")
        == 1
    )
    assert said(result, "the mailbox is dead") == 1
    assert all(entry["status"] == 0 for entry in result.commands() if entry["cmd"] == "SNP_PLATFORM_STATUS")


def test_more_time_for_slow_commands():
    """What the line says that a command without an answer leaves: a longer time-out, and binding anew."""
    result, did, took = psps("slow")
    assert did == ["done"] * 3 + ["failed"] * 2 + ["done"] * len(REMEDY)
    line = "firmware did not answer PLATFORM_STATUS within 2 s: the mailbox is dead, .*"
    advice = "if the command is only slow, raise ccp.psp_cmd_timeout and bind the PSP again"
    assert said(result, line + advice) == 1 and said(result, "the mailbox is dead") == 1
    # The first of them waits, the second is not issued.
    assert 2000 <= took[3] < 4000 and took[4] < 1000


def test_guests_that_another_binding_left():
    """The driver loses touch with firmware under a guest: the lines have their number, and what they say to do first
    is done first."""
    result, did, _ = psps("guests")
    steps, _ = STEPS["guests"]
    assert did == ["failed" if step == "status" else "done" for step in steps], list(zip(steps, did))
    assert said(result, r"SNP firmware was left initialised, with 1 guest\(s\)") == 2
    # Its context is not one of those that this binding has handed out, so it is not decommissioned.
    assert said(result, "SNP_SHUTDOWN_EX failed: .*, 1 of which this driver knows; end them") == 1
    states = [value.split()[2] for value in values(result, "after")]
    assert states[-1] == "closed"


def test_an_interrupt_that_is_lost():
    """It costs a fraction of a second, not a slice; then answers are looked for until interrupts come again."""
    result, did, took = psps("interrupt")
    steps, _ = STEPS["interrupt"]
    assert did == ["done"] * len(steps)
    assert max(ms for step, ms in zip(steps, took) if step == "status") < 10000
    assert said(result, "the answer is there but its interrupt never came; polling until interrupts come again") == 2
    assert said(result, r"interrupts come again \[") == 2
    assert said(result, "was reset") == 0


LOST = (
    "firmware was reset while SNP and SEV was initialised: guests that use it cannot go on; "
    "end all guests and reload kvm_amd"
)


@pytest.mark.parametrize("how", RESETS)
def test_a_reset(how):
    """By the PCI core, or by somebody who tells nobody: what firmware has lost is noticed, and the
    message's remedy works."""
    lost = how != "order:reset,registers"
    unnoticed = how in ("order:reset,function", "order:reset,firmware")
    result, did, took = psps(how)
    assert did == ["done", "done", "failed" if unnoticed else "done"] + ["done"] * 7
    assert max(took[2:4]) < 10000
    assert said(result, LOST) == lost and said(result, "the PSP was reset, but its firmware has kept its state") == (
        not lost
    )
    forgotten = "the answer is there but its interrupt was switched off: something has reset the PSP's registers"
    assert said(result, forgotten) == (how in ("order:reset,function", "order:reset,registers"))
    states = [value.split()[2] for value in values(result, "after")]
    held = "held" if lost else "enabled"
    assert states[3:9] == [held, "held" if lost else "closed", "enabled", "enabled", "enabled", "closed"]
    asked = [entry["cmd"] for entry in result.commands() if not entry["status"]]
    assert asked.count("SNP_INIT_EX") == 2 and "SNP_LAUNCH_FINISH" in asked


def test_guests_that_a_reset_has_taken():
    """Firmware knows them no longer: they are none of those that keep SNP_EN when the PSP is unbound."""
    steps = ["+kvm_amd", "guest", "order:reset,firmware", "status", "end", "-kvm_amd", "+kvm_amd", "unbind:41"]
    # KVM remarks that it could not end the guest.
    result = boot("psps.sh", *steps, limit=240, expects=("snp_decommission_context",), allows=health.LEFT)
    assert result.status == 0, result.lines
    after = [value.split()[:3] for value in values(result, "after")]
    states = ["enabled"] * 3 + ["held"] * 3 + ["enabled", "closed"]
    did = ["failed" if step == "status" else "done" for step in steps]
    assert after == [list(row) for row in zip(steps, did, states)]
    assert said(result, LOST) == 1 and said(result, r"own memory|SNP_DECOMMISSION failed") == 0
    told = [entry["cmd"] for entry in result.commands() if entry["cmd"] != "SNP_PAGE_RECLAIM"]
    assert told[-2:] == ["SHUTDOWN", "SNP_SHUTDOWN_EX"]
