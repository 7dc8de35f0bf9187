# SPDX-License-Identifier: GPL-2.0
"""Files in sysfs: names, permissions and contents are those of the in-tree driver; those of our own are in
Documentation/ABI. `state` in debugfs says what the models say of themselves, and tools/metrics says the same."""

import re
from functools import cache
from pathlib import Path

import pytest
from conftest import boot, paths, values
from vmlib import kernels, machine

# What the feature register has without anything about security, which the PSP is asked for then.
ASKED = ("--capability=1",)
# The security bits of the model's part, and the version of its boot loader.
SECURITY = {
    "fused_part": 1,
    "boot_integrity": 1,
    "debug_lock_on": 1,
    "tsme_status": 0,
    "anti_rollback_status": 1,
    "rpmc_production_enabled": 0,
    "rpmc_spirom_available": 0,
    "hsp_tpm_available": 0,
    "rom_armor_enforced": 1,
}
FILES = {"bootloader_version": "00.29.00.75"} | {name: str(bit) for name, bit in SECURITY.items()}
VULNERABILITIES = "/sys/firmware/sev/vulnerabilities"
# Faults of the PSP when it is asked, one after the other, and what the driver says. The third is that it has not
# answered yet.
FAULTS = {
    "HSTI_QUERY@1:status=2": "EIO",
    "HSTI_QUERY@1:silent": "ETIMEDOUT",
    "HSTI_QUERY@2:silent": "EBUSY",
}


@cache
def shown(driver: str, psp: tuple[str, ...] = (), faults: tuple[str, ...] = ()):
    """Phase -> file -> (mode, contents), or -> value written -> answer; and the run."""
    lost = (" 1 lost so far",) * sum("silent" in fault for fault in faults)
    files = {"usr/bin/ccp-metrics": paths.TOP / "tools/metrics"}
    result = boot("sysfs.sh", *faults, driver=driver, psp=list(psp), expects=lost, files=files)
    assert result.status == 0, result.lines
    phases: dict[str, dict] = {}
    for line in values(result, "file"):
        phase, file, mode, *contents = line.split(" ", 3)
        phases.setdefault(phase, {})[file] = (mode, *contents)
    for line in values(result, "write"):
        phase, value, *answer = line.split(" ", 2)
        phases.setdefault(phase, {})[value] = answer
    return phases, result


def drop_in(phases: dict[str, dict]) -> dict[str, dict]:
    """Without what the in-tree driver has nothing of; that of 7.2 has no mitigations."""
    intree = (paths.KERNEL_SOURCE / "drivers/crypto/ccp/sev-dev.c").read_text()
    has_mitigations = Path(VULNERABILITIES).name in intree
    return {
        phase: {
            name: value
            for name, value in files.items()
            if not name.startswith("/sys/kernel/ccp/")
            # Values that are written are for a mitigation.
            and (has_mitigations or not name.startswith(VULNERABILITIES) and isinstance(value, tuple))
        }
        for phase, files in phases.items()
    }


def test_same_as_in_tree():
    intree, ours = (drop_in(shown(driver)[0]) for driver in ("intree", "ours"))
    # Documentation/differences.md has this one.
    gone = [phases["gone"].pop("bootloader_version") for phases in (intree, ours)]
    assert gone == [("444", "ff.ff.ff.ff"), ("444", "error: No such device")]
    assert ours == intree
    assert ours["loaded"] == {file: ("444", text) for file, text in FILES.items()}


def test_security_from_the_mailbox():
    """Where the register has nothing. The PSP does not come back from the last fault, so the rest is not compared."""
    intree, ours = drop_in(shown("intree", ASKED)[0]), drop_in(shown("ours", ASKED, tuple(FAULTS))[0])
    assert ours["loaded"] == intree["loaded"] == {file: ("444", text) for file, text in FILES.items()}


def test_mitigations():
    """There while SNP is up. The model knows two, and verifies one at a time."""
    phases, result = shown("ours")
    known, verified = f"{VULNERABILITIES}/supported_mitigations", f"{VULNERABILITIES}/verified_mitigations"
    assert phases["up"][known] == ("400", "0x3") and phases["up"][verified] == ("600", "0x0")
    assert phases["written"][known] == ("400", "0x3") and phases["written"][verified] == ("600", "0x3")
    assert [value for value, answer in phases["up"].items() if answer == [""]] == ["1", "0x2"]
    assert phases["refused"][known] == ("400", "error: Input/output error")
    assert phases["refused"]["1"] == ["error: Input/output error"]
    for phase in ("loaded", "stopped", "gone"):
        assert known not in phases[phase] and verified not in phases[phase]
    assert "unloaded" not in phases
    asked = [entry["mitigation"] for entry in result.commands() if "mitigation" in entry]
    # Two reads, 4 which firmware does not know, two that it verifies, two reads.
    assert asked == [0, 0, 4, 1, 2, 0, 0]
    assert result.console.count("firmware does not confirm the mitigation 0x4 (failure status 0x1)") == 1


def test_security_does_not_matter_to_sev():
    """A PSP that does not say how secure the platform is can still do SEV."""
    phases, result = shown("ours", ASKED, tuple(FAULTS))
    for fault in FAULTS:
        assert phases[fault].keys() - {"/sys/kernel/ccp/lost_pages"} == {"bootloader_version"}
    said = [line for line in result.console.splitlines() if "does not say whether the platform is secured" in line]
    assert [line.split("(")[1].split(")")[0] for line in said] == list(FAULTS.values())
    answers = [entry["answer"] for entry in result.trace if entry.get("event") == "service"]
    # The last one is that of the load with parameters, when the PSP answers again.
    assert answers == ["0x0", "0x2", "no answer", "late answer", "0x0"]
    assert "SNP_SHUTDOWN_EX" in [entry["cmd"] for entry in result.commands()]


def test_parameters():
    """SEV-TIO is refused with a message, and what nobody knows is ignored by the kernel: both drivers load."""
    for driver in ("intree", "ours"):
        _, result = shown(driver)
        assert values(result, "tio") == ["Y"]
        assert result.console.count("ccp: unknown parameter 'no_such_parameter' ignored") == 1
        assert result.console.count("ccp: tio=1 has no effect") == (driver == "ours")


def told(phase: str) -> dict[str, str]:
    """What `state` says then: name -> words."""
    _, result = shown("ours")
    lines = [line.removeprefix(f"{phase} ") for line in values(result, "state") if line.startswith(f"{phase} ")]
    return dict(line.split(": " if ": " in line else ":", 1) for line in lines)


def issued_before(mark: str) -> list[dict]:
    """The commands that the PSP was given until then."""
    trace = shown("ours")[1].trace
    end = next(n for n, entry in enumerate(trace) if entry.get("text") == mark)
    return [entry for entry in trace[:end] if "cmd" in entry]


@pytest.mark.parametrize("phase", ["loaded", "up", "hanging", "ended", "stopped"])
def test_state_counts_what_the_psp_saw(phase):
    """And to read it is no command."""
    commands = issued_before(f"state {phase}")
    # The one that hangs has no status; its late answer, RESOURCE_LIMIT, is no command.
    refused = sum(entry.get("status", 0) != 0 for entry in commands) + (phase in ("ended", "stopped"))
    assert told(phase)["commands"] == f"{len(commands)} issued, {refused} refused, 0 not answered"
    assert issued_before(f"told {phase}") == commands


def test_state():
    """What the model and the machine say of themselves."""
    up = told("up")
    assert up["PSP"] == "0000:41:00.0" and up["mailbox"] == "idle"
    assert (up["SNP"], up["SEV"], up["firmware"]) == ("up", "up", "1.55.21")
    assert up["TCB"].startswith("current 0xdb14000000000004, reported 0xdb14000000000004, ")
    assert up["features"] == "EBX 0x0, ECX 0x200e" and up["lost pages"] == "0"
    assert up["ASIDs there are"] == "1 to 49 for SNP and SEV-ES guests, 50 to 100 for SEV guests"
    assert up["CPU hotplug"].startswith("refused for ") and up["CPU hotplug"].endswith(": SNP is enabled on all CPUs")
    size = machine.rmp_size(kernels.get("stock").memory << 20) - 0x4000
    entries = f"{size // 1024} KiB of entries in 1 piece(s)"
    assert up["RMP"] == f"at {machine.RMP_BASE:#x}, {entries}, for the memory below {size // 16 * 4096:#x}"
    for phase in ("loaded", "stopped"):
        assert (told(phase)["SNP"], told(phase)["SEV"]) == ("down", "down")
        assert told(phase)["CPU hotplug"] == "allowed: SNP is not in use"
    assert told("loaded")["last error"] == "none"


def test_state_of_guests():
    asid = next(entry["asid"] for entry in shown("ours")[1].commands() if entry["cmd"] == "SNP_ACTIVATE")
    for phase, guests, asids in (("up", 0, ""), ("hanging", 1, str(asid)), ("ended", 0, "")):
        assert (told(phase)["SNP guests"], told(phase)["ASIDs of SNP guests"].strip()) == (str(guests), asids)
        assert told(phase)["ASIDs of SEV guests"].strip() == ""


def test_state_does_not_wait():
    """A command that hangs does not keep anybody from reading which one it is."""
    took = {phase: int(ms) for phase, ms in map(str.split, values(shown("ours")[1], "took"))}
    assert took["hanging"] < 2000
    assert re.fullmatch(r"PLATFORM_STATUS, for \d+ s", told("hanging")["mailbox"])
    assert told("ended")["mailbox"] == "idle"
    assert told("ended")["last error"].startswith("PLATFORM_STATUS: RESOURCE_LIMIT (0x17): ")


def test_documentation_abi():
    """Has the files of our own with their permissions, and no others."""
    described = set()
    for page in (paths.TOP / "Documentation/ABI").iterdir():
        entries = re.findall(
            r"^What:\t\t(\S+)\nDate:.*\nKernelVersion:.*\nContact:.*\nDescription:\n\t\t\((RO|RW), 0(\d+)\)",
            page.read_text(), re.M,
        )  # fmt: skip
        assert len(entries) == page.read_text().count("What:"), page
        assert all((access == "RW") == (int(mode, 8) & 0o222 != 0) for _, access, mode in entries), entries
        described |= {f"{mode} {file}" for file, _, mode in entries}
    assert described == set(values(shown("ours")[1], "abi"))
    assert values(shown("ours")[1], "debugfs") == ["200 refresh_guests", "400 state"]


SAMPLE = re.compile(r'ccp_rs_(\w+)(\{\w+="[^"\\]*"(?:,\w+="[^"\\]*")*\})? (\d+)')


def measured(driver: str, phase: str) -> dict[str, int]:
    """What tools/metrics says then. Each metric has a line of help and its type, and is named after that."""
    _, result = shown(driver)
    out, kind = {}, {}
    for line in (line.removeprefix(f"{phase} ") for line in values(result, "metric") if line.startswith(f"{phase} ")):
        if line.startswith("# HELP "):
            helped = line.split()[2]
        elif line.startswith("# TYPE "):
            _, _, name, what = line.split()
            assert name == helped and name not in kind, line
            kind[name] = what
            assert (what == "counter") == name.endswith("_total"), line
        else:
            name, labels, number = SAMPLE.fullmatch(line).groups()
            assert f"ccp_rs_{name}" == helped, line
            out[f"{name}{labels or ''}"] = int(number)
    return out


def test_metrics():
    """They are what `state` says at the same time, which the tests above compare with the models."""
    for phase in ("loaded", "up", "hanging", "ended", "stopped"):
        seen, state = measured("ours", phase), told(phase)
        version = re.search(r"\((.*)\)", (paths.TOP / "packaging/debian/changelog").read_text())[1]
        up = phase in ("up", "hanging", "ended")
        window = {f'window{{state="{name}"}}': int(name == ("enabled" if up else "closed"))
                  for name in ("closed", "preparing", "enabled", "held")}  # fmt: skip
        seconds = seen.pop("window_open_seconds")
        assert 0 <= seconds < 120 if up else seconds == 0
        issued, refused, unanswered = map(int, re.findall(r"\d+", state["commands"]))
        assert seen == window | {
            "loaded": 1, f'info{{version="{version}",firmware="{state["firmware"]}"}}': 1, "lost_pages_total": 0,
            "snp_up": up, "sev_up": up, "snp_guests": int(state["SNP guests"]), "mailbox_dead": 0,
            "commands_total": issued, "commands_refused_total": refused, "commands_unanswered_total": unanswered,
        }, phase  # fmt: skip
    assert measured("ours", "ended")["commands_refused_total"] == 1
    assert measured("intree", "up") == {"loaded": 0}
