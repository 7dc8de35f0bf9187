# SPDX-License-Identifier: GPL-2.0
"""Drivers that are wrong on purpose, each in one respect: the models notice, and say what it is.

The driver is the in-tree one, on a kernel in which modules/forget.c leaves something out; what a module does by itself
that no driver may is in test_platform.py (forbidden.c). `make test` takes a sample, `make test-long` all.
"""

import dataclasses
import functools
import re
from collections.abc import Iterator

import pytest
from conftest import Config, module, paths
from vmlib import suite
from vmlib.health import LEFT

FORGOTTEN = re.compile(r"forgotten: [1-9]\d* times")


@dataclasses.dataclass(frozen=True)
class Wrong:
    words: str  # for the module
    told: tuple[str, str] | None = None  # what firmware answers: command, status
    wrong: str | None = None  # and what it found wrong with a CPU
    expects: tuple[str, ...] = ()  # findings
    allows: tuple[str, ...] = ()  # what comes of it otherwise
    says: str = ""  # what a launcher gets to see of it
    config: tuple[tuple[str, object], ...] = ()  # of the machine


# No command is given, but the driver believes that it was.
SEV_DF_FLUSH, DF_FLUSH, DECOMMISSION, ACTIVATE, GCTX_CREATE = 0x0A, 0x84, 0x90, 0x91, 0x93
LAUNCH_START, LAUNCH_FINISH, PAGE_RECLAIM, SHUTDOWN, SNP_INIT_EX = 0xA0, 0xA2, 0xC7, 0x02, 0x85

WRONG = {
    "no WBINVD before SNP_INIT": Wrong(
        "function=__wbinvd after=0", expects=("CPU 0: stale-cache", "CPU 1: stale-cache")
    ),
    "WBNOINVD instead of WBINVD": Wrong(
        "function=__wbinvd after=0 wbnoinvd=1", expects=("CPU 0: stale-cache", "CPU 1: stale-cache")
    ),
    "no WBINVD on one CPU": Wrong("function=__wbinvd after=0 cpu=1", expects=("CPU 1: stale-cache",)),
    "no WBINVD after SNP_INIT": Wrong("function=__wbinvd before=0", ("SNP_DF_FLUSH", "WBINVD_REQUIRED")),
    "no WBINVD after SNP_INIT on one CPU": Wrong(
        "function=__wbinvd before=0 cpu=1", ("SNP_DF_FLUSH", "WBINVD_REQUIRED")
    ),
    "WBNOINVD after SNP_INIT": Wrong("function=__wbinvd before=0 wbnoinvd=1", ("SNP_DF_FLUSH", "WBINVD_REQUIRED")),
    "no DF_FLUSH": Wrong(f"command={DF_FLUSH},{SEV_DF_FLUSH}", ("SNP_ACTIVATE", "DFFLUSH_REQUIRED")),
    "no SNP_EN on one CPU": Wrong(
        "function=snp_enable cpu=1", ("SNP_INIT_EX", "INVALID_CONFIG"), "SYSCFG.SNP_EN clear"
    ),
    "no MFDM on one CPU": Wrong(
        "function=mfd_reconfigure cpu=1", ("SNP_INIT_EX", "INVALID_CONFIG"), "SYSCFG.MFDM clear"
    ),
    "ASID not activated": Wrong(f"command={ACTIVATE}", ("SNP_LAUNCH_UPDATE", "INACTIVE")),
    "no context": Wrong(
        f"command={GCTX_CREATE}", ("SNP_LAUNCH_START", "INVALID_GUEST"), expects=("at snp_decommission_context",)
    ),
    "launch not started": Wrong(f"command={LAUNCH_START}", ("SNP_ACTIVATE", "INVALID_GUEST_STATE")),
    "guest not decommissioned": Wrong(f"command={DECOMMISSION}", ("SNP_SHUTDOWN_EX", "DFFLUSH_REQUIRED")),
    "page given back before its reclaim": Wrong(f"command={PAGE_RECLAIM}", expects=("Leaking PFN range",)),
    "SNP shut down before SEV": Wrong(f"command={SHUTDOWN}", ("SNP_SHUTDOWN_EX", "INVALID_PLATFORM_STATE")),
    # Pages that are free are zeroed by the kernel, as a new owner might.
    "TMR freed while SEV is up": Wrong(
        f"again command={SHUTDOWN}",
        expects=("PSP model: memory of firmware overwritten",),
        config=(("append", "sev=nosnp init_on_free=1"),),
    ),
    "CPUID page not copied back": Wrong(
        "cpuid copy_back=0",
        ("SNP_LAUNCH_UPDATE", "INVALID_PARAM"),
        says="cpuid EIO error=0x16 0x11 0x22 0x33",
        config=(("psp", "--refuse-cpuid=0x8000001f"),),
    ),
    "pages not given to firmware": Wrong("function=rmp_make_private", ("INIT", "INVALID_PAGE_STATE")),
}
SAMPLE = ["no WBINVD before SNP_INIT", "no DF_FLUSH", "page given back before its reclaim"]


@functools.cache
def outcomes(long: bool) -> dict[str, suite.Outcome]:
    names = list(WRONG) if long else SAMPLE
    return {name: outcome for config in {WRONG[name].config for name in names} for name, outcome in run(config, names)}


def run(more: tuple[tuple[str, object], ...], names: list[str]) -> Iterator[tuple[str, suite.Outcome]]:
    """Those of the wrong drivers that want such a machine."""
    config = Config(driver="intree", files={"forget.ko": module("forget")})
    for name, value in more:
        setattr(config, name, [value] if name == "psp" else value)
    cases = {
        suite.Case(name.replace(" ", "-"), WRONG[name].words, WRONG[name].expects, (*LEFT, *WRONG[name].allows)): name
        for name in names
        if WRONG[name].config == more
    }
    for outcome in suite.run(config, paths.VM_SCRIPTS / "forget.sh", list(cases), 120, "forget"):
        yield cases[outcome.case], outcome


@pytest.mark.parametrize("name", WRONG)
def test_wrong_driver_is_caught(name, long):
    if not long and name not in SAMPLE:
        pytest.skip("'make test-long' does it")
    this, outcome = WRONG[name], outcomes(long)[name]
    assert not outcome.failure, f"{outcome.failure}\n{outcome.run}"
    assert any(FORGOTTEN.search(line) for line in outcome.kernel), f"nothing was forgotten: {outcome.run}"
    told = {(entry.get("cmd"), entry.get("status_name"), entry.get("wrong")) for entry in outcome.trace}
    assert this.says in {"", *(line.removeprefix("@") for line in outcome.lines)}, outcome.run
    assert this.told is None or (*this.told, this.wrong) in told, (outcome.run, sorted(map(str, told)))


def test_right_driver_is_not_accused():
    """The same with nothing forgotten."""
    config = Config(driver="intree", files={"forget.ko": module("forget")})
    case = suite.Case("nothing", "command=0x7fff")
    (outcome,) = suite.run(config, paths.VM_SCRIPTS / "forget.sh", [case], 120, "forget")
    assert not outcome.failure and not outcome.findings(), (outcome.failure, outcome.run)
    assert {entry["status"] for entry in outcome.trace if entry.get("cmd") not in ("SNP_PLATFORM_STATUS", None)} == {0}
