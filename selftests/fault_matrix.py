# SPDX-License-Identifier: GPL-2.0
"""The fault matrix: every command that the driver issues × every way in which firmware can fail it.

Nothing in it is typed by hand: the commands of each phase come from the trace of a run without a fault,
the statuses from the driver's tables. What is to come of a cell is in fault_rules.py.
"""

import dataclasses
import functools
from pathlib import Path

from driver_tables import tables
from vmlib import health, paths, suite
from vmlib.machine import Config

SCENARIO = paths.VM_SCRIPTS / "fault-matrix.sh"
PHASES = ("probe", "init", "launch", "ask", "unload")
# Kinds of fault after which the mailbox is dead: what the driver says of it.
DEADLY = {"silent": "did not answer", "stale": "did not answer", "allones": "all ones", "gone": "all ones"}
# For a cell in which a command is not answered, seconds: long enough for a healthy PSP on a busy machine.
TIMEOUT = 4
# Seconds for a boot, and for a cell, before the machine counts as hung.
LIMIT = 120

# Firmware and parameters with which other paths are taken (as in Config), and the commands for which they are.
VARIANTS = {
    "x86": ({}, None),
    # Before 1.52 there is no SNP_INIT_EX.
    "api-1.51": ({"api": "1.51.3"}, {"SNP_INIT"}),
    "file": ({"append": "ccp.init_ex_path=/nv"}, {"INIT_EX"}),
    # SNP_EN stays set: every cell needs a boot of its own.
    "legacy": ({"shutdown": "legacy"}, {"SNP_SHUTDOWN_EX"}),
}


@dataclasses.dataclass(frozen=True)
class Kind:
    """A way to fail."""

    name: str
    action: str  # pspd's word for it
    seconds: int = 0  # the driver's time-outs, 0 for its own
    wait: int = 0  # how long an answer may be late

    @property
    def status(self) -> int | None:
        return STATUSES.get(self.name.removeprefix("status-"))


@dataclasses.dataclass(frozen=True)
class Cell:
    variant: str
    phase: str
    command: str
    kind: Kind

    @property
    def name(self) -> str:
        return f"{self.variant}/{self.phase}/{self.command}/{self.kind.name}"

    @property
    def fault(self) -> str:
        """For pspd: the first time that the command comes in the phase."""
        return f"{self.command}@1:{self.kind.action}"

    def case(self) -> suite.Case:
        words = f"{self.phase} {self.kind.seconds} {self.kind.wait} {self.fault}"
        return suite.Case(self.name, words, allows=self.allows())

    @property
    def deadly(self) -> bool:
        """Firmware never answers, so the driver gives the mailbox up."""
        return self.kind.name in DEADLY

    def allows(self) -> tuple[str, ...]:
        """Warnings that are not the driver's to prevent, and what stays with firmware, which fault_rules counts."""
        stays = self.deadly or self.command in ("SNP_PAGE_RECLAIM", "SNP_SHUTDOWN_EX", "SNP_DECOMMISSION")
        kvms = self.phase == "launch" and (self.deadly or self.command == "SNP_DECOMMISSION")
        return health.LEFT * stays + (r"arch/x86/kvm/svm/sev\.c",) * kvms


STATUSES = tables().statuses | {"0x9000": 0x9000}
KINDS = [
    # One more that is known, and one that no ABI assigns but that has been seen.
    *(
        Kind(f"status-{name}", f"status={name}")
        for name in dict.fromkeys([*sorted(tables().named), "INVALID_PARAM", "0x9000"])
    ),
    Kind("late", "late=300"),
    Kind("garbage", "garbage"),
    Kind("silent", "silent", TIMEOUT),
    # The driver waits twice as long for SNP_INIT, and a little more.
    Kind("stale", f"late={TIMEOUT * 2000 + 1500}", TIMEOUT, 10),
    Kind("allones", "allones", TIMEOUT),
    Kind("gone", "gone", TIMEOUT),
]


def _config(variant: str, kernel: str) -> Config:
    # An image for DOWNLOAD_FIRMWARE, which the model refuses as it refuses all: none is AMD's.
    image = paths.CACHE / "no-firmware"
    image.write_bytes(bytes(4096))
    return Config(kernel=kernel, **VARIANTS[variant][0], files={"usr/lib/firmware/amd/sev.fw": image})


def run(cells: list[Cell], kernel: str = "stock"):
    """Run cells, and yield (cell, outcome)."""
    for variant in VARIANTS:
        mine = {cell.name: cell for cell in cells if cell.variant == variant}
        for outcome in suite.run(
            _config(variant, kernel), SCENARIO, [cell.case() for cell in mine.values()], LIMIT, "fault-matrix"
        ):
            yield mine[outcome.case.name], outcome


@functools.cache
def healthy(variant: str, kernel: str = "stock") -> dict[str, suite.Outcome]:
    """Runs without a fault: all calls of /dev/sev in the phase "ask", and the plain one."""
    cases = [suite.Case(name, f"{name} 0 0") for name in ("plain", "ask")]
    return {o.case.name: o for o in suite.run(_config(variant, kernel), SCENARIO, cases, LIMIT, "fault-matrix")}


def commands(variant: str, phase: str) -> list[str]:
    """What is issued in a phase, each command once, in the order of the first."""
    outcome = healthy(variant)["ask" if phase == "ask" else "plain"]
    part = suite.sections(outcome.trace, r"phase (\w+)", lambda entry: entry.get("text", ""))[phase]
    return list(dict.fromkeys(entry["cmd"] for entry in part if "cmd" in entry))


def applies(command: str, kind: Kind) -> bool:
    return kind.name != "garbage" or command in tables().with_lengths


@functools.cache
def all_cells() -> list[Cell]:
    points = [
        (variant, phase, command)
        for variant, (_, only) in VARIANTS.items()
        for phase in PHASES
        for command in commands(variant, phase)
        if only is None or command in only
    ]
    return [Cell(*point, kind) for point in points for kind in KINDS if applies(point[2], kind)]
