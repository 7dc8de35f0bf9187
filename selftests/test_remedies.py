# SPDX-License-Identifier: GPL-2.0
"""What a message says to do is done, and then it works."""

import functools

import pytest
from conftest import boot, in_turn, module, paths, values
from failures import MANY_RANGES
from vmlib import health, suite

OLD = {"api": "1.49.0"}
REFUSED = {"psp": ["--fault=SNP_INIT_EX:status=3"]}
CLOSED, ENABLED = "closed 0 allowed cpus=", "enabled 1 refused cpus=0-1"
STAYS_OFF = "SEV stays off: SNP_EN is set on CPUs but SNP firmware is not initialised, and firmware refuses INIT then; "
UNFIT = "snp_host: {}: CPU hotplug is never restricted"

# What is done in vm/window.sh, a step with "!" fails; a line that is said before the step after
# "|"; what is so after the last step. In one machine:
AT_ONCE = {
    "SEV without SNP": (
        {"snp_en": "on"},
        "+ccp pek-gen! | +kvm_amd pek-gen",
        STAYS_OFF + "reload kvm_amd to initialise SNP",
        ENABLED,
    ),
    "SNP_EN with snp=0": (
        {"snp_en": "on"},
        "+ccp,snp=0 pek-gen! -ccp | +ccp +kvm_amd pek-gen",
        STAYS_OFF + "restart the machine, which clears SNP_EN, or load ccp without snp=0",
        ENABLED,
    ),
    "CPU offline": (
        {},
        "offline +kvm_amd | online -kvm_amd +kvm_amd",
        "snp_host: SNP is not enabled: CPUs 1 are present but offline",
        ENABLED,
    ),
    "suspend": (
        {},
        "+kvm_amd sleep! | -kvm_amd suspend",
        "snp_host: suspend refused while SNP is enabled: CPUs could come back without SNP_EN. Unload kvm_amd first",
        CLOSED,
    ),
    "hotplug": ({}, "+kvm_amd | -kvm_amd", "while SNP is enabled. To end that unload kvm_amd", CLOSED),
    "without SNP": (
        {},
        "+kvm_amd | -kvm_amd -ccp +ccp,snp=0 +kvm_amd sev-guest",
        "no CPU may come or go, and no suspend or hibernation, while SNP is enabled",
        CLOSED,
    ),
    "SNP_EN found": (
        {"snp_en": "on"},
        "+snp_host | +kvm_amd -kvm_amd",
        "until a shutdown of SNP clears SNP_EN (load and unload kvm_amd)",
        CLOSED,
    ),
    # What the line warns of is found between.
    "in-tree ccp": (
        {"expects": ("sysfs: state=closed open_seconds=0 snp_en_cpus=0",)},
        "intree-ccp +kvm_amd sleep! offline online! | -kvm_amd online -ccp +kvm_amd",
        "snp_host: another ccp than that of this snp_host is loaded, and enables SNP without a hotplug window: for now "
        "unload kvm_amd and ccp and load kvm_amd again",
        ENABLED,
    ),
    "init_ex_path": (
        {},
        "+ccp,init_ex_path=/vm/window.sh pek-gen! -ccp | +ccp,init_ex_path=/nv +kvm_amd sev-guest",
        "SEV stays off: init_ex_path names /vm/window.sh, which has ",
        ENABLED,
    ),
    # The guests end at "clear": the model refuses as firmware with an ASID in use does.
    "guests": (
        {"psp": ["--fault=SNP_SHUTDOWN_EX:status=0xf"]},
        "+kvm_amd -kvm_amd | clear +kvm_amd -kvm_amd",
        "SNP_SHUTDOWN_EX failed: DFFLUSH_REQUIRED (0xf), although it was done: SNP guests still have ASIDs, 0 of which "
        "this driver knows; end them, then reload and unload kvm_amd",
        CLOSED,
    ),
    "snp=0": (
        {},
        "+ccp,snp=0 +kvm_amd | -kvm_amd -ccp +ccp +kvm_amd snp",
        "SNP stays off: ccp was loaded with snp=0",
        ENABLED,
    ),
    # It is frozen by whoever does not look at the count of disabled hotplug, and goes on.
    "CPU stays": (
        {"files": "freeze"},
        "+kvm_amd /freeze.ko -freeze | -kvm_amd /freeze.ko",
        "snp_host: CPU 1 stays online: SNP is enabled, and it might come back without SNP_EN. Unload kvm_amd first",
        CLOSED,
    ),
    # misuse.ko opens a window and leaves it so.
    "SVM in use": (
        {"files": "misuse", "expects": ("sysfs: state=preparing",)},
        "+kvm_amd,sev=0 +snp_host /misuse.ko | -kvm_amd +kvm_amd",
        "snp_host: SNP stays off: the virtualization of CPUs 0-1 is in use (EFER.SVME)",
        ENABLED,
    ),
}
# What is so before; the line; and what the line says is changed for the next boot.
AFTER_RESTART = {
    "old firmware with SNP_EN": (
        OLD | {"snp_en": "on"},
        "+ccp pek-gen!",
        STAYS_OFF + "restart the machine, which clears SNP_EN: this firmware is too old",
        OLD,
        "+kvm_amd sev-guest",
    ),
    "old firmware": (
        OLD,
        "+kvm_amd",
        "SNP stays off: firmware has API 1.49.0, SNP needs 1.51; install newer firmware",
        {},
        "+kvm_amd snp",
    ),
    "no SNP host with SNP_EN": (
        {"snp_en": "on", "append": "sev=nosnp"},
        "+ccp pek-gen!",
        STAYS_OFF + "restart the machine",
        {"append": "sev=nosnp"},
        "+kvm_amd sev-guest",
    ),
    "SNP_INIT refused": (
        REFUSED,
        "+kvm_amd sev-guest!",
        "legacy SEV stays off, too, for firmware refuses it while CPUs have SNP_EN: for legacy SEV alone restart the "
        "machine with ccp.snp=0",
        REFUSED | {"append": "ccp.snp=0"},
        "+kvm_amd sev-guest",
    ),
    "SEV after a refused SNP_INIT": (
        REFUSED,
        "+kvm_amd pek-gen!",
        STAYS_OFF + "it refused SNP_INIT, too: for legacy SEV alone restart the machine with ccp.snp=0",
        REFUSED | {"append": "ccp.snp=0"},
        "+kvm_amd pek-gen",
    ),
    "SMT": (
        {"threads": 2, "snp_en": "on"},
        "smt-off +snp_host smt-on!",
        "snp_host: CPU 1 stays offline: without SNP_EN it would bypass the RMP checks of all others. Unload kvm_amd "
        "first, or boot with sev=nosnp",
        {"threads": 2, "append": "sev=nosnp"},
        "smt-off +kvm_amd smt-on",
    ),
    # Legacy SEV works meanwhile.
    "too many ranges": (
        {"append": MANY_RANGES},
        "+kvm_amd sev-guest",
        "SNP stays off: SNP_INIT_EX takes no list as long as that of the memory that the BIOS has reserved",
        {},
        "+kvm_amd snp",
    ),
    # The firmware that is there goes on meanwhile.
    "firmware image": (
        {"files": {"usr/lib/firmware/amd/sev.fw": paths.TOP / "COPYING"}},
        "+kvm_amd snp",
        "DOWNLOAD_FIRMWARE failed: BAD_SIGNATURE (0xa)",
        {},
        "+kvm_amd snp",
    ),
    "pci=nomsi": (
        {"append": "pci=nomsi"},
        "+ccp",
        "cannot get an MSI-X or MSI vector",
        {},
        "+kvm_amd snp",
    ),
    "maxcpus": (
        {"append": "maxcpus=1"},
        "+kvm_amd",
        "snp_host: SNP is not enabled: CPUs 1 are present but offline",
        {},
        "+kvm_amd snp",
    ),
    "nosmt": (
        {"threads": 2, "append": "nosmt"},
        "+kvm_amd",
        "snp_host: SNP is not enabled: CPUs 1 are present but offline",
        {"threads": 2},
        "+kvm_amd snp",
    ),
    "sev=nosnp": (
        {"append": "sev=nosnp"},
        "+kvm_amd",
        UNFIT.format("sev=nosnp is on the kernel command line; for SNP remove it"),
        {},
        "+kvm_amd snp",
    ),
    "iommu=off": (
        {"append": "iommu=off"},
        "+kvm_amd",
        UNFIT.format(
            "the IOMMU is off, or has no SNP; for SNP remove iommu=off or amd_iommu=off from the kernel command line, "
            "or switch the IOMMU on in the BIOS set-up"
        ),
        {},
        "+kvm_amd snp",
    ),
    "amd_iommu=off": (
        {"append": "amd_iommu=off"},
        "+kvm_amd",
        UNFIT.format(
            "the IOMMU is off, or has no SNP; for SNP remove iommu=off or amd_iommu=off from the kernel command line, "
            "or switch the IOMMU on in the BIOS set-up"
        ),
        {},
        "+kvm_amd snp",
    ),
    "iommu=pt": (
        {"append": "iommu=pt"},
        "+kvm_amd",
        UNFIT.format(
            "the IOMMU lets DMA pass as it is; for SNP remove iommu=pt or iommu.passthrough=1 from the kernel command "
            "line"
        ),
        {},
        "+kvm_amd snp",
    ),
    "no memory encryption": (
        {"msr": ["all:SYSCFG=0"]},
        "+snp_host",
        UNFIT.format("the BIOS has not enabled SEV; for SNP switch SME and SEV on in its set-up"),
        {},
        "+kvm_amd snp",
    ),
    "no RMP": (
        {"msr": ["all:RMP_BASE=0"]},
        "+snp_host",
        UNFIT.format(
            "the BIOS has reserved no memory for the RMP; for SNP switch SNP and its memory coverage on in the BIOS "
            "set-up"
        ),
        {},
        "+kvm_amd snp",
    ),
    "no SNP": ({"platform": False}, "+snp_host", UNFIT.format("the CPU has no SEV-SNP"), {}, "+kvm_amd snp"),
}


# Of a CPU without its microcode; and what firmware keeps until the remedy.
ALLOWS = ("hw-vuln/srso", *health.LEFT)
RUNS = {}
OFFLINE, OFFLINE_STEPS = "no-window", ["offline", "+kvm_amd", "-kvm_amd"]


def take(steps: list[str], machine: dict):
    """Steps that are the same on the same machine, as are those of most remedies after a restart, are taken once."""
    key = repr((steps, machine))
    if key not in RUNS:
        RUNS[key] = take_now(steps, machine)
    return RUNS[key]


def take_now(steps: list[str], machine: dict):
    files = machine.get("files", {})
    if isinstance(files, str):
        files = {f"{files}.ko": module(files)}
    words = [step.rstrip("!") for step in steps]
    result = boot("window.sh", *words, limit=240, **machine | {"files": files}, allows=ALLOWS)
    assert result.status == 0, result.lines
    did_as_wanted(result, steps)
    return result


@functools.cache
def in_one_machine() -> dict[str, suite.Outcome]:
    """What is done at once in a machine like any other. The name of a case is one word."""
    steps = {name.replace(" ", "-"): words for name, (machine, words, *_) in AT_ONCE.items() if not machine}
    steps[OFFLINE] = " ".join(OFFLINE_STEPS)
    cases = [suite.Case(name, words.replace("!", "").replace("|", ""), allows=ALLOWS) for name, words in steps.items()]
    return in_turn("window.sh", cases, limit=240)


def taken(name: str, steps: list[str], machine: dict):
    if machine:
        return take(steps, machine)
    outcome = in_one_machine()[name.replace(" ", "-")]
    assert not outcome.failure, outcome.failure
    did_as_wanted(outcome, steps)
    return outcome


def did_as_wanted(result, steps: list[str]) -> None:
    did = [f"{step.rstrip('!')} {'failed' if step.endswith('!') else 'done'}" for step in steps]
    assert values(result, "did") == did, [
        line for line in result.console.splitlines() if "ccp" in line or "snp_host" in line
    ]


def said(result, text: str) -> int:
    return sum(text in line for line in result.console.splitlines())


@pytest.mark.parametrize("name", AT_ONCE)
def test_remedy(name):
    machine, steps, line, state = AT_ONCE[name]
    before, remedy = (part.split() for part in steps.split("|"))
    result = taken(name, before + remedy, machine)
    assert said(result, line) == 1
    after = [value.strip() for value in values(result, "after")]
    assert after[-1] == f"{remedy[-1]} {state}", values(result, "reason")
    # It was not so before.
    assert not after[len(before) - 1].endswith(f" {state}")


@pytest.mark.parametrize("name", AFTER_RESTART)
def test_remedy_after_restart(name):
    machine, steps, line, next_machine, remedy = AFTER_RESTART[name]
    assert said(take(steps.split(), machine), line) == 1
    result = take(remedy.split(), next_machine)
    assert said(result, line) == 0


def test_offline_cpu_opens_no_window():
    """Nothing was opened, so nothing is said to be."""
    result = taken(OFFLINE, OFFLINE_STEPS, {})
    assert said(result, "snp_host: hotplug window") == 0
