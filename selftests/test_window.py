# SPDX-License-Identifier: GPL-2.0
"""The hotplug window: open exactly as long as it has to be, in the kernel's own count."""

import functools

import pytest
from conftest import boot, in_turn, values
from vmlib import health, suite

CLOSED = "closed 0 allowed cpus="
OPEN = "1 refused cpus=0-1"
PRESET = "snp_en=on"
RMPREAD = "rmpread=on"
KDUMP = "elfcorehdr=0x1000"  # which makes a kernel take itself for one
# What machine, and what happens in it.
TABLES = {
    # Loading alone does nothing; SNP opens it; while it is open, suspend is refused and snp_host cannot
    # be unloaded; X86_SNP_SHUTDOWN closes it; then everything unloads.
    "life": (
        [],
        [
            ("+snp_host", CLOSED),
            ("+kvm_amd", f"enabled {OPEN}"),
            ("sleep!", f"enabled {OPEN}"),
            ("-snp_host!", f"enabled {OPEN}"),
            ("-kvm_amd", CLOSED),
            ("-ccp", CLOSED),
            ("-snp_host", "gone 0"),
        ],
    ),
    # The PSP goes away under kvm-amd: SNP is shut down first.
    "unbind": (
        [],
        [
            ("+kvm_amd", f"enabled {OPEN}"),
            ("unbind", CLOSED),
            ("bind", CLOSED),
            ("-kvm_amd", CLOSED),
            ("+kvm_amd", f"enabled {OPEN}"),
        ],
    ),
    # Firmware that cannot clear SNP_EN: open over every reload of ccp, counted once, and snp_host stays.
    "legacy": (
        ["--shutdown=legacy"],
        [
            ("+kvm_amd", f"enabled {OPEN}"),
            ("-kvm_amd", f"held {OPEN}"),
            ("-ccp", f"held {OPEN}"),
            ("-snp_host!", f"held {OPEN}"),
            ("+kvm_amd", f"enabled {OPEN}"),
            ("-kvm_amd", f"held {OPEN}"),
        ],
    ),
    # A definite refusal, and an RMP that is all zero: closed although SNP_EN is set. snp_host stays, for
    # the next load could not tell this from a kexec.
    "refused": (
        ["--fault=SNP_INIT_EX:status=3"],
        [
            ("+kvm_amd", "closed 0 allowed cpus=0-1"),
            ("-kvm_amd", "closed 0 allowed cpus=0-1"),
            ("-ccp", "closed 0 allowed cpus=0-1"),
            ("-snp_host!", "closed 0 allowed cpus=0-1"),
        ],
    ),
    # The same refusal, but the RMP still has what firmware left in it.
    "rmp-not-zero": (
        ["--shutdown=legacy", "--fault=SNP_INIT_EX@2:status=3"],
        [
            ("+kvm_amd", f"enabled {OPEN}"),
            ("-kvm_amd", f"held {OPEN}"),
            ("+kvm_amd", f"held {OPEN}"),
            ("-kvm_amd", f"held {OPEN}"),
            ("-ccp", f"held {OPEN}"),
        ],
    ),
    # Both again on CPUs with RMPREAD, whose raw entries nobody knows.
    "rmpread-zero": ([RMPREAD, "--fault=SNP_INIT_EX:status=3"], [("+kvm_amd", "closed 0 allowed cpus=0-1")]),
    "rmpread-not-zero": (
        [RMPREAD, "--shutdown=legacy", "--fault=SNP_INIT_EX@2:status=3"],
        [("+kvm_amd", f"enabled {OPEN}"), ("-kvm_amd", f"held {OPEN}"), ("+kvm_amd", f"held {OPEN}")],
    ),
    # Refusals that say nothing about the RMP.
    "rmp-init-failed": (
        ["--fault=SNP_INIT_EX:status=0x26"],
        [("+kvm_amd", f"held {OPEN}"), ("-kvm_amd", f"held {OPEN}"), ("-ccp", f"held {OPEN}")],
    ),
    "hardware-error": (["--fault=SNP_INIT_EX:status=0x13"], [("+kvm_amd", f"held {OPEN}")]),
    # A CPU that is offline: not opened, nothing written.
    "offline": (
        [],
        [
            ("+snp_host", CLOSED),
            ("offline", "closed 0 offline cpus="),
            ("+kvm_amd", "closed 0 offline cpus="),
            ("online", CLOSED),
            ("-kvm_amd", CLOSED),
            ("-ccp", CLOSED),
            ("-snp_host", "gone 0"),
        ],
    ),
    # SNP_EN is set before we come: open at once, until SNP was shut down.
    "found": ([PRESET], [("+snp_host", f"held {OPEN}"), ("+kvm_amd", f"enabled {OPEN}"), ("-kvm_amd", CLOSED)]),
    # The in-tree driver has left SNP_EN behind, and knows nothing of a window.
    "intree-first": (
        ["--shutdown=legacy"],
        [
            ("intree", "gone 0"),
            ("-kvm_amd", "gone 0"),
            ("-ccp", "gone 0"),
            ("+snp_host", f"held {OPEN}"),
            ("+kvm_amd", f"enabled {OPEN}"),
            ("-kvm_amd", f"held {OPEN}"),
        ],
    ),
    # The in-tree driver has gone before it has enabled SNP, and with ours nothing is left of it.
    "other-ccp": (
        ["--fault=SNP_INIT_EX:status=3"],
        [
            ("intree-ccp", "gone 0"),
            ("+snp_host", CLOSED),
            ("-ccp", CLOSED),
            ("+kvm_amd", "closed 0 allowed cpus=0-1"),
        ],
    ),
    # A kdump kernel touches nothing, whatever it finds.
    "kdump": (
        [PRESET, KDUMP],
        [
            ("+snp_host", "closed 0 allowed cpus=0-1"),
            ("+kvm_amd", "closed 0 allowed cpus=0-1"),
            ("-kvm_amd", "closed 0 allowed cpus=0-1"),
        ],
    ),
    # Taken away by force: CPUs can still not go. Coming back, it cannot know of that.
    "force": (
        ["--shutdown=legacy"],
        [
            ("+kvm_amd", f"enabled {OPEN}"),
            ("-kvm_amd", f"held {OPEN}"),
            ("-ccp", f"held {OPEN}"),
            ("force", "gone 1"),
            ("+snp_host", "held 2 refused cpus=0-1"),
        ],
    ),
}


@functools.cache
def alike() -> dict[str, suite.Outcome]:
    """Those in a machine like any other."""
    tables = {name: rows for name, (options, rows) in TABLES.items() if not options}
    cases = [suite.Case(name, " ".join(step.rstrip("!") for step, _ in rows)) for name, rows in tables.items()]
    return in_turn("window.sh", cases, limit=240)


@functools.cache
def run(name: str):
    options, rows = TABLES[name]
    if not options:
        outcome = alike()[name]
        assert not outcome.failure, outcome.failure
        return outcome
    psp, cpu = [o for o in options if o.startswith("--")], [o for o in options if o in (PRESET, RMPREAD)]
    append = " ".join(o for o in options if o not in psp + cpu)
    words = (step.rstrip("!") for step, _ in rows)
    result = boot("window.sh", *words, psp=psp, cpu=cpu, append=append, limit=240)
    assert result.status == 0, result.lines
    return result


@pytest.mark.parametrize("name", TABLES)
def test_window(name):
    """Each row is a step and what it leads to; a step with "!" must fail."""
    result, (_, rows) = run(name), TABLES[name]
    assert values(result, "did") == [
        f"{step.rstrip('!')} {'failed' if step.endswith('!') else 'done'}" for step, _ in rows
    ]
    assert [line.strip() for line in values(result, "after")] == [
        f"{step.rstrip('!')} {state}" for step, state in rows
    ], values(result, "reason")


def test_reasons_are_told():
    """A window that is held says why, in the log once per change, and in sysfs."""
    legacy, life = run("legacy"), run("life")
    held = [line for line in legacy.console.splitlines() if "snp_host: hotplug window stays open" in line]
    times_held = [step for step, _ in TABLES["legacy"][1]].count("-kvm_amd")
    assert len(held) == times_held and all("without X86_SNP_SHUTDOWN" in line for line in held)
    assert sum("without X86_SNP_SHUTDOWN" in reason for reason in values(legacy, "reason")) >= times_held
    for text in ("hotplug window opened", "hotplug window closed", "suspend refused"):
        assert sum(f"snp_host: {text}" in line for line in life.console.splitlines()) == 1, text


def test_forced_unload_is_survived():
    """The message says what still holds and what does not."""
    said = [line for line in run("force").console.splitlines() if "snp_host: unloaded by force" in line]
    assert len(said) == 1 and "CPU hotplug stays disabled until the machine restarts" in said[0]


def test_rmp_is_cleared_before_and_after():
    """On every start with SNP_EN on no CPU, and once firmware has cleared it; never while it is set."""
    cleared = {name: run(name).console.count("snp_host: RMP cleared") for name in ("life", "legacy", "found")}
    assert cleared == {"life": 2, "legacy": 1, "found": 1}


def test_users_interrupt_no_cpu():
    """What is read by interrupting every CPU is for root alone; all else costs the CPUs nothing."""
    result = boot("window.sh", "+ccp", "users", limit=240)
    assert result.status == 0, result.lines
    read = {(user, file): (may, int(calls)) for user, file, may, calls in map(str.split, values(result, "read"))}
    files = {file for _, file in read}
    assert files >= {"snp_host/state", "snp_host/snp_en_cpus", "ccp/lost_pages"}
    may, calls = read["root", "snp_host/snp_en_cpus"]
    assert may == "yes" and calls >= 200, "this is what a file that interrupts looks like"
    for file in files - {"snp_host/snp_en_cpus"}:
        assert read["somebody", file][0] == "yes", file
    assert read["somebody", "snp_host/snp_en_cpus"][0] == "no"
    assert {key: calls for key, (may, calls) in read.items() if calls >= 100} == {
        ("root", "snp_host/snp_en_cpus"): calls
    }


def sleeps(state: str, *times: str, **machine):
    """What sleep.sh says; while SNP is up nobody sleeps, and where it is not the machine comes back."""
    expected = {"before": "yes snp_en=", "during": "no snp_en=0,1", "after": "yes snp_en=", "legacy": "yes snp_en="}
    result = boot("sleep.sh", state, *times, **machine)
    assert values(result, "slept") == [f"{time} {expected[time]}" for time in times], result.lines
    return result


def stays_off(result, state: str) -> None:
    """SNP has been up, is not started again by a machine that has slept, and legacy SEV is up instead, which was in
    this state when it had slept once more, and can be used."""
    assert result.status == 0 and values(result, "snp") == ["N"], result.lines
    said = [line for line in result.console.splitlines() if "[slept]" in line]
    assert len(said) == 1 and "SNP stays off: the machine has slept" in said[0], said
    starts = [entry["cmd"] for entry in result.commands() if entry["cmd"] in ("SNP_INIT_EX", "INIT", "INIT_EX")]
    assert starts[0] == "SNP_INIT_EX" and "SNP_INIT_EX" not in starts[1:] and len(starts) > 2, starts
    # The driver knows before anybody asks firmware.
    assert values(result, "knows") == [{"00": "SEV: down", "01": "SEV: up"}[state]]
    status, generated = values(result, "ioctl")
    assert status.split()[3][4:6] == state and generated.startswith("pek-gen 0 error=0"), (status, generated)


def test_suspend_to_ram():
    """The PSP's interrupts are switched on before somebody misses them."""
    result = sleeps("mem", "during", "after", "legacy", sleeps=True)
    stays_off(result, "01")
    assert result.console.count("ACPI: PM: Low-level resume complete") == 2
    assert "its interrupt was switched off" not in result.console


def test_suspend_to_ram_with_the_intree_driver():
    """Its PSP has interrupts switched off when the machine comes back, and it does not switch them on again: the
    answer to its next command is not heard. And the kernel has not told the IOMMU again where completion waits write
    to, which is to be firmware's: the machine comes back without."""
    result = sleeps("mem", "after", driver="intree", sleeps=True, allows=health.LEFT)
    assert result.status == 0 and values(result, "snp") == ["N"], result.lines
    assert [(entry["cmd"], entry["status"]) for entry in result.commands()][-1] == ("SNP_INIT_EX", 0)
    before, after = [entry["iommu"].split() for entry in result.commands() if entry["cmd"] == "SNP_INIT_EX"]
    *logs, semaphore = before
    assert len(logs) == 2 and after == logs, (before, semaphore, after)


def test_hibernation():
    """The machine comes back from its disk, by a kernel that has the driver as well."""
    result = sleeps("disk", "during", "after", "legacy", disk=1024, limit=400)
    stays_off(result, "00")
    assert result.console.count("firmware was reset while SEV was initialised") == 1
    assert result.console.count("hibernation: resume from hibernation") == 2
