# SPDX-License-Identifier: GPL-2.0
"""The kernel panics with SNP guests running: what becomes of SNP, and whether the crash kernel gets a whole dump. With
our kvm-amd with hooks, with Debian's own, and with the in-tree driver.

The table in Documentation/kvm-amd.md has a line for each case, as it is printed here.
"""

import dataclasses
import itertools
import re

import pytest
from conftest import boot, paths, values
from vmlib import hooked, suite

PAGE = paths.TOP / "Documentation/kvm-amd.md"
ENDED = [("SHUTDOWN", 0), ("SNP_SHUTDOWN_EX", 0xF), ("SNP_DF_FLUSH", 0), ("SNP_SHUTDOWN_EX", 0)]


@dataclasses.dataclass(frozen=True)
class Case:
    module: str
    shutdown: str
    guests: int


# In `make test`; the others in `make test-long`.
SAMPLE = [Case("hooked", "x86", 1), Case("hooked", "legacy", 8), Case("stock", "x86", 8)]
CASES = [Case("hooked", shutdown, guests) for shutdown in ("x86", "legacy") for guests in (1, 8)]
CASES += [Case("stock", "x86", 8), Case("stock", "legacy", 1), Case("in-tree", "x86", 8), Case("in-tree", "legacy", 1)]


@dataclasses.dataclass
class Outcome:
    case: Case
    told: list[tuple[str, int]]  # commands after the panic, and firmware's answer
    snp_en: str  # CPUs, in the crash kernel
    dump: dict[str, str]  # what selftests/programs/vmcore.c says
    ram: int  # bytes that the dump has to have
    release: str
    console: str

    def is_complete(self) -> bool:
        size = int(self.dump["promised"])
        return int(self.dump["read"]) == size > int(self.dump["ram"]) == self.ram

    def line(self) -> str:
        counted = [
            f"{name}{f' {status:#x}' if status else ''}{f' × {count}' if (count := len(list(group))) > 1 else ''}"
            for (name, status), group in itertools.groupby(self.told)
        ]
        case, dump = self.case, "whole" if self.is_complete() else "not whole"
        return f"| {case.module} | {case.shutdown} | {case.guests} | {', '.join(counted)} | {self.snp_en} | {dump} |"


def crash(case: Case) -> Outcome:
    files = hooked.files() if case.module == "hooked" else hooked.launcher_files()
    result = boot(
        "crash-guests.sh", str(case.guests), driver="intree" if case.module == "in-tree" else "ours",
        shutdown=case.shutdown, guest=True, files=files, kexec=True, crashkernel=256, limit=400,
        expects=("Call Trace",),
        # The trace is the panic's. What stays assigned, and in whose hands, is what the table is about.
        allows=("^RMP: ", "ends with VMEXIT_INVALID"),
    )  # fmt: skip
    assert result.status == 0, result.lines
    parts = suite.sections(result.trace, r"(panic)", lambda entry: entry.get("text", ""))
    (ram,), (crashed,) = values(result, "ram"), values(result, "crashed")
    (dump,) = [dict(field.split("=", 1) for field in line.split()) for line in values(result, "vmcore")]
    assert values(result, "read") == ["0"]
    (snp_en,) = [field.removeprefix("snp_en=") for field in crashed.split() if field.startswith("snp_en=")]
    return Outcome(
        case,
        [(c["cmd"], c["status"]) for c in parts["panic"] if "cmd" in c],
        f"CPUs {snp_en}" if snp_en else "clear",
        dump,
        int(ram),
        paths.RELEASE,
        result.console,
    )


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.module}-{case.shutdown}-{case.guests}")
def test_panic_with_guests_running(case, long, note):
    """The crash kernel reads every byte of the dump, with all CPUs' registers and memory of the first kernel in it.
    With hooks, guests are ended, all CPUs write their caches back, and firmware is shut down."""
    if not long and case not in SAMPLE:
        pytest.skip("in make test-long")
    outcome = crash(case)
    note(outcome.line())
    assert outcome.is_complete(), (outcome.dump, outcome.ram)
    assert outcome.dump["cpus"] == "2" and outcome.dump["release"] == outcome.release
    assert int(outcome.dump["marked"]) >= 1
    if case.module == "hooked":
        told = [entry for entry in outcome.told if entry[0] != "SNP_PAGE_RECLAIM"]
        assert told == [("SNP_DECOMMISSION", 0)] * case.guests + ENDED
        ended = rf"ccp .*: {case.guests} SNP guest\(s\) ended for the panic \[panic-guests-ended\]\s*$"
        assert len(re.findall(ended, outcome.console, re.MULTILINE)) == 1
        said = {
            "x86": "SNP is shut down for the panic, SNP_EN is clear: a kdump kernel can use all memory",
            "legacy": "SNP is shut down for the panic, but SNP_EN stays set",
        }
        assert outcome.console.count(said[case.shutdown]) == 1
        assert outcome.snp_en == ("clear" if case.shutdown == "x86" else "CPUs 0,1")
    else:
        assert not [entry for entry in outcome.told if entry == ("SNP_SHUTDOWN_EX", 0)]
        assert outcome.snp_en == "CPUs 0,1"
    if case.module == "stock":
        said = f"{case.guests} SNP guest(s) cannot be ended for the panic: the other CPUs would have to"
        assert outcome.console.count(said) == 1
    assert outcome.line() in PAGE.read_text(), outcome.line()
