# SPDX-License-Identifier: GPL-2.0
"""The question whether a run was healthy: whatever a healthy machine does not have is found, and must be named."""

import pytest
from conftest import boot
from vmlib import suite
from vmlib.health import Evidence, Unhealthy, contradictions, judge, until_its_end

REPORT = {"cpu": 1, "report": "foreign-write", "count": 3, "pc": "0xffffffff81000000", "address": "0x5000"}
# Evidence, and the one finding that it makes.
ILL = {
    "a warning": (
        Evidence("[    1.5] WARNING: kernel/x.c:1 at f+0x1/0x2\n[    1.6] Call Trace:\n"),
        "kernel: WARNING: kernel/x.c:1 at f+0x1/0x2",
    ),
    "a trace of its own": (Evidence("Call Trace:"), "kernel: Call Trace:"),
    "an oops": (Evidence("Oops: Oops: 0003 [#1] SMP"), "kernel: Oops: Oops: 0003 [#1] SMP"),
    "lockdep": (Evidence("WARNING: possible circular locking dependency detected"), "kernel: WARNING: possible"),
    "KASAN": (Evidence("BUG: KASAN: slab-use-after-free in f"), "kernel: BUG: KASAN: slab"),
    "pages that are lost": (
        Evidence("ccp: 1 page(s) from 0x5000 on are lost until the machine restarts: why; 1 lost so far"),
        "kernel: ccp: 1 page(s) from 0x5000 on are lost",
    ),
    "pages that KVM leaks": (Evidence("SEV-SNP: Leaking PFN range 0x1-0x2"), "kernel: SEV-SNP: Leaking PFN range"),
    "a report of the CPU model": (Evidence(reports=[REPORT]), "CPU model: CPU 1: foreign-write, 3 times"),
    "a guest that was ended": (
        Evidence(notes=["guest on CPU 0 ends with VMEXIT_INVALID: there is no VMPL 4"]),
        "CPU model: guest on CPU 0 ends with VMEXIT_INVALID: there is no VMPL 4",
    ),
    "a doorbell while busy": (
        Evidence(trace=[{"event": "doorbell while busy", "id": 0x81}]),
        "PSP model: doorbell while busy (0x81), 1 times",
    ),
    "an interrupt that goes nowhere": (
        Evidence(trace=[{"event": "interrupt not set up"}]),
        "PSP model: interrupt not set up, 1 times",
    ),
    "a report of the PSP model": (
        Evidence(trace=[{"event": "page in use", "address": "0x5000", "command": "SNP_LAUNCH_UPDATE"}]),
        "PSP model: page in use, 0x5000, at SNP_LAUNCH_UPDATE",
    ),
    "a PSP model that complains": (Evidence(complaints=["thread panicked"]), "PSP model: thread panicked"),
    "entries left assigned": (Evidence(left=2), "RMP: 2 entries are left assigned"),
}
WELL = Evidence(
    "[    1.0] ccp 0000:41:00.0: SEV-SNP API:1.58 build:4",
    [{"cmd": "INIT", "status": 3}, {"event": "mark", "text": "WARNING"}],
    notes=["QEMU: Debian", "guest execution: not modelled", "count vmrun 3"],
)


@pytest.mark.parametrize("what", ILL)
def test_is_found(what):
    evidence, finding = ILL[what]
    (found,) = evidence.findings()
    assert found.startswith(finding)
    assert judge([found]) == [found] and judge([found], allows=(finding[:10],)) == []


LOST = "ccp: 1 page(s) from 0x5000 on are lost until the machine restarts: why; {} lost so far"
OPENED = "snp_host: hotplug window opened: no CPU may come or go"
CLOSED = "snp_host: hotplug window closed: CPUs may come and go again"
HELD = "snp_host: hotplug window stays open: {}. CPU hotplug, suspend and hibernation stay disabled"
NO_END = "the firmware does not answer any more"


def sysfs(state="enabled", seconds=5, snp_en="0-1", lost=0, reason="SNP is enabled on all CPUs") -> str:
    return (
        f"sysfs: state={state} open_seconds={seconds} snp_en_cpus={snp_en} online=0-1 lost_pages={lost} reason={reason}"
    )


def off(**more) -> str:
    return sysfs(**{"state": "closed", "seconds": 0, "snp_en": "", "reason": "SNP is not in use"} | more)


def held(**more) -> str:
    return sysfs(**{"state": "held", "reason": NO_END} | more)


@pytest.mark.parametrize(
    "messages",
    [
        [OPENED, sysfs()],
        [off()],
        [OPENED, CLOSED, off()],
        [OPENED, HELD.format(NO_END), held()],
        [OPENED, HELD.format(NO_END), sysfs()],
        [OPENED, HELD.format(NO_END), "Linux version 7.3", off()],
        [LOST.format(4), off(lost=4)],
        [LOST.format(4), off(lost=""), off(lost=0)],
        [LOST.format(4), "ccp 0000:41:00.0: SEV enabled (pspv2, MsiX)", off(lost=0)],
    ],
)
def test_files_that_say_what_the_log_says(messages):
    assert contradictions(log(messages)) == []


@pytest.mark.parametrize(
    "messages",
    [
        [OPENED, off()],
        [OPENED, CLOSED, sysfs()],
        [OPENED, CLOSED, held()],
        [OPENED, CLOSED, off(seconds=1)],
        [OPENED, CLOSED, off(snp_en="1")],
        [OPENED, CLOSED, off(reason="SNP is enabled on all CPUs")],
        [OPENED, sysfs(seconds=2)],
        [OPENED, sysfs(seconds=9)],
        [OPENED, sysfs(snp_en="0")],
        [OPENED, sysfs(reason="SNP is being enabled")],
        [OPENED, sysfs(state="preparing")],
        [OPENED, HELD.format(NO_END), held(reason="SNP_EN is still set")],
        [OPENED, HELD.format(NO_END), held(seconds=50)],
        [off(lost=1)],
        [LOST.format(4), off(lost=3)],
        [LOST.format(4), off(lost=0)],
    ],
)
def test_files_that_contradict_the_log(messages):
    (found,) = Evidence(log(messages)).findings()[len([one for one in messages if "are lost" in one]) :]
    assert found.startswith("sysfs: state=")


def log(messages: list[str]) -> str:
    """The last one comes 5 s after the others. To read the files takes as long as it takes."""
    return "\n".join(
        [*(f"[   10.0] {text}" for text in messages[:-1]), "[   15.0] sysfs: now", f"[   16.4] {messages[-1]}"]
    )


def test_a_healthy_run_has_nothing():
    assert WELL.findings() == [] == judge([])


def test_what_was_expected_must_happen():
    assert judge(["RMP: 2 entries are left assigned"], ("^RMP: 2 ",)) == []
    assert judge([], ("stale-cache",)) == ["expected, and did not happen: stale-cache"]
    assert judge(["a", "b"], ("a",)) == ["b"] and judge([], allows=("a",)) == []


def test_what_comes_behind_a_panic_is_its_own():
    assert until_its_end("WARNING: 1\nKernel panic - not syncing: x\nCall Trace:") == "WARNING: 1\n"
    assert until_its_end("WARNING: 1\n") == "WARNING: 1\n"


@pytest.mark.parametrize(
    "ends, failure, verdict",
    [
        (None, None, "not healthy: kernel: BUG: x"),
        (None, "no end within 40 s", "no end within 40 s\nkernel: BUG: x"),
        ("went away", "the machine went away", "not healthy: kernel: BUG: x"),
        ("went away", None, "the machine did not end as it should: went away\nkernel: BUG: x"),
        ("went away", "no end within 40 s", "no end within 40 s\nkernel: BUG: x"),
    ],
)
def test_a_case_says_how_it_ends(ends, failure, verdict):
    outcome = suite.Outcome(suite.Case("case", ends=ends), evidence=Evidence("BUG: x"))
    outcome.judge(failure)
    assert outcome.failure == verdict
    well = suite.Outcome(suite.Case("case", ends=ends))
    well.judge(failure if ends else None)
    assert (well.failure is None) == ((ends is None) or bool(failure and ends in failure))


def test_a_run_that_is_not_healthy_fails():
    """And one that expects something else than what happens."""
    with pytest.raises(Unhealthy, match="kernel: WARNING: planted"):
        boot("runner.sh", "warn", driver="intree")
    with pytest.raises(Unhealthy, match="expected, and did not happen: stale-cache"):
        boot("runner.sh", "warn", driver="intree", expects=("planted", "stale-cache"))
    assert boot("runner.sh", "warn", driver="intree", expects=("planted",)).status == 0


class Scripted:
    """A machine that is as ill as the rows say when a case ends."""

    def __init__(self, run_dir, *states: Evidence):
        self.run_dir, self.states = run_dir, list(states)

    def psps(self) -> range:
        return range(2)

    def order(self, order: str, n: int) -> str:
        return "ok"

    def models(self) -> Evidence:
        return self.states.pop(0)

    def rmp(self) -> dict:
        return {}

    def console(self) -> str:
        return "WARNING: early\ncase one begins\nfine\ncase two begins\n[    3.0] BUG: late\n"

    def trace(self, n: int) -> list[dict]:
        """Of the second PSP all is the second case's."""
        event = {"event": "interrupt not set up"}
        return [*([event], [])[n], {"text": "case one"}, {"text": "case two"}, event | {"psp": n}]


def test_each_case_answers_for_itself(tmp_path):
    """What came before the first is the first's; what the models have counted for one case is not counted again."""
    states = [
        Evidence(reports=[REPORT], notes=["#VMEXIT at 1"], complaints=["a"], left=1),
        Evidence(
            reports=[REPORT | {"count": 5}], notes=["#VMEXIT at 1", "#VMEXIT at 2"], complaints=["a", "b"], left=3
        ),
    ]
    boot = suite._Boot(Scripted(tmp_path, *states), [suite.Case("one"), suite.Case("two")])
    assert [boot.on_ask("next") for _ in range(3)] == ["ok one ", "ok two ", "ok"]
    boot.finish(None)
    where = "first at pc 0xffffffff81000000 address 0x5000"
    assert [outcome.findings() for outcome in boot.done] == [
        [
            "kernel: WARNING: early",
            f"CPU model: CPU 1: foreign-write, 3 times, {where}",
            "CPU model: #VMEXIT at 1",
            "PSP model: a",
            "PSP model: interrupt not set up, 1 times",
            "RMP: 1 entries are left assigned",
        ],
        [
            "kernel: BUG: late",
            f"CPU model: CPU 1: foreign-write, 2 times, {where}",
            "CPU model: #VMEXIT at 2",
            "PSP model: b",
            "PSP model: interrupt not set up, 2 times",
            "RMP: 2 entries are left assigned",
        ],
    ]
    assert [([entry["psp"] for entry in outcome.trace], outcome.other_traces) for outcome in boot.done] == [
        ([], [[]]),
        ([0], [[{"event": "interrupt not set up", "psp": 1}]]),
    ]
    assert all(outcome.failure.startswith("not healthy: ") for outcome in boot.done)
    assert (tmp_path / "failure").read_text().count("not healthy") == 2, "the run is one that went wrong"
