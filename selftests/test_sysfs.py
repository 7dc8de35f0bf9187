# SPDX-License-Identifier: GPL-2.0
"""Files in sysfs: names, permissions and contents are those of the in-tree driver."""

from functools import cache

from conftest import boot, values

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
    result = boot("sysfs.sh", *faults, driver=driver, psp=list(psp), expects=lost)
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
    """Without what the in-tree driver has nothing of."""
    return {
        phase: {file: value for file, value in files.items() if not file.startswith("/sys/kernel/ccp/")}
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
    """Where the register has nothing. The PSP does not come back from the last fault, so what follows is not compared."""
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
    assert answers == ["0x0", "0x2", "no answer"]
    assert "SNP_SHUTDOWN_EX" in [entry["cmd"] for entry in result.commands()]
