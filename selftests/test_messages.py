# SPDX-License-Identifier: GPL-2.0
"""Documentation/errors.md has every message of the modules, and names a test that provokes it. Those that no other
test provokes are provoked here."""

import functools
import re
from collections import Counter
from itertools import pairwise

import pytest
from conftest import boot, module, paths, values
from failures import MANY_RANGES
from vmlib.module_file import ModuleFile

PAGE = paths.TOP / "Documentation/errors.md"
NOTHING_DONE = ("--fault=SNP_SHUTDOWN_EX:status=0",)  # firmware says that it has stopped SNP, and has not
# A kernel that takes itself for a kdump kernel opens no window.
MISUSE = ({"append": "elfcorehdr=0x1000", "files": {"misuse.ko": "misuse"}}, ("+snp_host", "/misuse.ko"))
# The machine; what is done (vm/window.sh); how the one line begins that the driver says about it.
CASES = {
    "no memory encryption": (
        {"msr": ("all:SYSCFG=0",)},
        ("+kvm_amd",),
        "ccp 0000:41:00.0: SEV is not available: memory encryption is not enabled in the BIOS",
    ),
    "old firmware": (
        {"api": "1.49.0"},
        ("+kvm_amd",),
        "ccp 0000:41:00.0: SNP stays off: firmware has API 1.49.0, SNP needs 1.51",
    ),
    # For all models, and for this one, which comes first.
    **{
        f"firmware image {names[-1]}": (
            {"api": "1.55.7", "files": {f"usr/lib/firmware/{name}": paths.TOP / "COPYING" for name in names}},
            ("+ccp",),
            "ccp 0000:41:00.0: DOWNLOAD_FIRMWARE failed: BAD_SIGNATURE (0xa): a signature does not verify; check that "
            f"the file belongs to this CPU model; the image is {names[-1]}, firmware 1.55.7 goes on",
        )
        for names in (
            ["amd/sev.fw"],
            ["amd/sev.fw", "amd/amd_sev_fam19h_model0xh.sbin"],
            ["amd/sev.fw", "amd/amd_sev_fam19h_model0xh.sbin", "amd/amd_sev_fam19h_model01h.sbin"],
        )
    },
    "too many ranges": (
        {"append": MANY_RANGES},
        ("+kvm_amd",),
        "ccp 0000:41:00.0: SNP stays off: SNP_INIT_EX takes no list as long as",
    ),
    "damaged storage": ({"psp": ("--fault=INIT@1:status=0x18",)}, ("+kvm_amd",), "ccp 0000:41:00.0: INIT: "),
    "SEV without SNP": (
        {"snp_en": "on"},
        ("+ccp", "pek-gen"),
        "ccp 0000:41:00.0: SEV stays off: SNP_EN is set on CPUs but SNP firmware is not initialised",
    ),
    "SMT": ({"threads": 2, "snp_en": "on"}, ("smt-off", "+snp_host", "smt-on"), "snp_host: CPU 1 stays offline: "),
    "CPU stays": ({"files": {"freeze.ko": "freeze"}}, ("+kvm_amd", "/freeze.ko"), "snp_host: CPU 1 stays online: "),
    "SNP_EN stays": (
        # The IOMMU's, as firmware has not taken note.
        {"psp": NOTHING_DONE, "expects": ("^RMP: 131 ",)},
        ("+kvm_amd", "-kvm_amd"),
        "ccp 0000:41:00.0: SNP firmware is shut down, but SNP_EN is still set on a CPU",
    ),
    "IOMMU's pages stay": (
        {"psp": ("--shutdown=legacy", *NOTHING_DONE), "expects": ("Call Trace", "^RMP: 131 ")},
        ("+kvm_amd", "-kvm_amd"),
        "ccp 0000:41:00.0: SNP firmware is shut down, but pages of the IOMMU could not be taken back",
    ),
    "older TCB": (
        {"psp": ("--tcb=db16000000000004", "--committed-tcb=db14000000000004")},
        ("+kvm_amd",),
        "ccp 0000:41:00.0: attestation reports have TCB 0xdb14000000000004, firmware has 0xdb16000000000004: ",
    ),
    "kdump kernel": (*MISUSE, "snp_host: the hotplug window is not opened: "),
    "no window": (*MISUSE, "snp_host: the CPUs were to be prepared for SNP, but no hotplug window is open"),
    # Nothing stands in the way of software that writes to the RMP's own pages.
    "RMP damaged": (
        {"segments": 30, "rmp": "off", "expects": ("rmp-write",)},
        ("+kvm_amd", "rst0=0", "-kvm_amd"),
        "snp_host: the RMP is not cleared now but when SNP is started again: the RMP does not cover",
    ),
}


@functools.cache
def run(name: str):
    """Cases that do the same have one machine."""
    first = next(first for first, case in CASES.items() if case[:2] == CASES[name][:2])
    if first != name:
        return run(first)
    machine, steps, _ = CASES[name]
    machine = machine | {
        "files": {
            inside: module(file) if isinstance(file, str) else file for inside, file in machine.get("files", {}).items()
        }
    }
    return boot(
        "window.sh",
        *steps,
        limit=180,
        **{key: list(value) if key in ("psp", "cpu", "msr") else value for key, value in machine.items()},
    )


@pytest.mark.parametrize("name", CASES)
def test_message(name):
    result, (_, steps, begins) = run(name), CASES[name]
    said = [line for line in result.console.splitlines() if re.sub(r"^\[ *[\d.]+\] ", "", line).startswith(begins)]
    assert result.status == 0 and len(said) == 1, [
        line for line in result.console.splitlines() if re.search(r"\b(ccp|snp_host)\b", line)
    ]
    assert [line.split()[0] for line in values(result, "did")] == list(steps)
    assert ("attestation reports have TCB" in result.console) == (name == "older TCB")


def test_levels():
    """Of errors, warnings and notices (rust/sys/log.rs), of the device and of the module: as in kern_levels.h."""
    faults = ["--fault=SNP_INIT_EX:status=3", "--fault=SNP_PLATFORM_STATUS@1:no-irq"]
    result = boot("window.sh", "+ccp,tio=1", "+kvm_amd", "levels", psp=faults)
    err, warning, notice = "3", "4", "5"
    assert dict(value.split() for value in values(result, "level")) == {
        "interrupt-lost": warning,
        "interrupt-again": notice,
        "tio": warning,
        "window-opened": notice,
        "snp-init-failed": err,
        "window-closed": notice,
    }


def messages() -> list[list[str]]:
    """What the modules print: the parts between values of each line."""
    return [parts for name in ("snp_host.ko", "ccp.ko") for parts in ModuleFile(paths.OUR_MODULES / name).messages()]


def code(message: list[str]) -> str | None:
    """The code at the end of a line (rust/sys/log.rs)."""
    found = re.search(r" \[([a-z]+(?:-[a-z]+)*)\]$", message[-1])
    return found and found[1]


def rows() -> list[list[str]]:
    """The tables' rows: code, message, cause, what to do, test."""
    return [
        [cell.strip() for cell in line.strip("|").split(" | ")]
        for line in PAGE.read_text().splitlines()
        if line.startswith("| `")
    ]


def beginning(message: list[str]) -> str:
    """The first words that a person would look for: without values, up to where an explanation begins."""
    text = re.sub(r" \[[a-z-]+\]$", "", "\0".join(message))
    parts = [part.strip(" :") for part in re.split(r"[;.,(\0]", text)]
    return next((part for part in parts if len(part) > 12), max(parts, key=len))


def test_every_message_has_a_code_of_its_own():
    """But for those that need no action, which the page lists in a sentence."""
    assert len(messages()) > 100
    no_action = " ".join(PAGE.read_text().split()).partition("Lines without a code need no action: ")[2]
    no_action = no_action.partition("[Failures of real hosts]")[0]
    without = ["…".join(message) for message in messages() if not code(message) and beginning(message) not in no_action]
    assert not without, "\n".join(without)
    counts = Counter(code(message) for message in messages() if code(message))
    assert {name for name, count in counts.items() if count > 1} == set()


def test_every_code_has_a_row():
    known = [code(message) for message in messages() if code(message)]
    assert sorted(row[0].strip("`") for row in rows()) == sorted(known)
    assert {len(row) for row in rows()} == {5} and not [row[0] for row in rows() if not all(row)]
    # One table for a program: no other has such columns.
    headings = {line for line, below in pairwise(PAGE.read_text().splitlines()) if below.startswith("|---")}
    assert headings == {"| code | message | cause | what to do | test |"}


def test_every_row_has_the_words_of_its_message():
    by_code = {row[0].strip("`"): row[1] for row in rows()}
    stale = [
        f"{code(message)}: {beginning(message)}"
        for message in messages()
        if code(message) and beginning(message) not in by_code[code(message)]
    ]
    assert not stale, "\n".join(stale)


def test_every_row_names_tests_that_exist():
    known = {path.stem.removeprefix("test_") for path in paths.TOP.glob("selftests/test_*.py")} | {"kunit", "snp_host"}
    assert len(rows()) > 100
    wrong = [row[0] for row in rows() if not (names := re.findall(r"`(\w+)`", row[-1])) or not set(names) <= known]
    assert not wrong, "\n".join(wrong)
