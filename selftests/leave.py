# SPDX-License-Identifier: GPL-2.0
"""The tables of ways to leave SNP, in Documentation/generated: door × guest × what firmware can do. What becomes of
SNP_EN and of the RMP, what the log says of it, and whether the kernel gets into trouble.

Of what is in the table only the last column is said by the driver.
"""

import dataclasses
import itertools
import re
import sys
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "scripts"))

from vmlib import health, paths, suite  # noqa: E402
from vmlib.machine import Config  # noqa: E402

SCENARIO = paths.VM_SCRIPTS / "leave.sh"
LIMIT = 150  # seconds, for a boot and for a cell

DOORS = ("reboot", "kexec", "panic", "unbind", "remove", "unload")
GUESTS = ("none", "launched", "running")
# "refuses": as firmware does that still has a guest, whatever the driver tries.
FIRMWARE = {"x86": [], "legacy": ["--shutdown=legacy"], "refuses": []}
REFUSAL = "SNP_SHUTDOWN_EX:status=0xf+SNP_DF_FLUSH:status=0xe"
DRIVERS = ("ours", "intree")
# Repeated for every page, or asked by others.
UNTOLD = {"SNP_PAGE_RECLAIM", "SNP_PLATFORM_STATUS", "PLATFORM_STATUS", "SNP_FEATURE_INFO", "SNP_GUEST_REQUEST"}
# KVM's own remark that it could not end a guest; and a guest that goes on without its ASID.
REMARK = r"snp_decommission_context|ends with VMEXIT_INVALID: firmware has not bound ASID"
# What a machine without SNP says of itself when it ends.
ENDS = {
    "reboot": "the machine went away before the scenario ended",
    "panic": "Kernel panic - not syncing: sysrq triggered crash",
}


@dataclasses.dataclass(frozen=True)
class Cell:
    driver: str
    door: str
    guest: str
    firmware: str
    oops_panics: bool = False

    @property
    def name(self) -> str:
        more = ["panic_on_oops"] if self.oops_panics else []
        return "/".join((self.driver, self.door, self.guest, self.firmware, *more))

    def case(self) -> suite.Case:
        return suite.Case(
            self.name,
            f"{self.door} {self.guest} {REFUSAL if self.firmware == 'refuses' else '-'}",
            # What stays is counted below, row by row.
            allows=health.LEFT + (REMARK,) * (self.guest != "none"),
            ends=ENDS.get(self.door),
        )

    def config(self) -> Config:
        return Config(
            driver=self.driver, psp=FIRMWARE[self.firmware], kexec=self.door == "kexec", guest=self.guest == "running",
            append="oops=panic" if self.oops_panics else "",
            rmp="off" if self.door == "kexec" and self.leaves_pages else "enforce",
        )  # fmt: skip

    @property
    def leaves_pages(self) -> bool:
        """The next kernel faults where it writes to a guest's memory, or next to pages of the IOMMU that firmware has
        not given back. The row is about what is left."""
        return self.guest != "none" or self.firmware == "refuses"


@dataclasses.dataclass(frozen=True)
class State:
    assigned: int  # pages in the RMP
    snp_en: str  # CPUs


@dataclasses.dataclass
class Row:
    cell: Cell
    outcome: suite.Outcome
    before: State | None
    after: State | None  # in the next kernel, if there is one
    end: State | None  # when the guest has ended, if it can
    tried: list[str]
    commands: list[dict]

    def trouble(self) -> list[str]:
        """What the kernel complains of, KVM's remark aside, which is right: its guest was taken away."""
        return health.judge(self.outcome.findings(), allows=(*health.LEFT, REMARK))

    def kernel(self) -> str:
        """What the kernel says, but not when the machine goes off behind a door that it has survived."""
        return "\n".join(itertools.takewhile(lambda line: line != f"case {self.cell.name} ends", self.outcome.kernel))

    def failure(self) -> str | None:
        return self.outcome.failure

    def said(self) -> str:
        """What the driver says of what it leaves."""
        kernel = self.kernel()
        for word, text in (
            ("stays up", r"SNP firmware stays initialised, and the RMP keeps the memory"),
            ("not shut down", r"SNP is not shut down for the panic: .*memory of \d+ guest"),
            ("guests keep memory", r"\d+ SNP guest\(s\) own memory"),
            ("SNP_EN stays", r"shut down for the panic, but SNP_EN stays set"),
            ("all memory usable", r"a kdump kernel can use all memory"),
            ("refused", r"SEV-SNP firmware shutdown failed|DF_FLUSH failed|SNP_SHUTDOWN_EX failed|SNP_DF_FLUSH failed"),
        ):  # fmt: skip
            if re.search(text, kernel):
                return word
        return "-"

    def complaints(self) -> list[str]:
        """What is wrong with the row, for a driver that claims to leave safely."""
        cell = self.cell
        if self.failure():
            return [self.failure()]
        if not (self.before and self.after):
            return [f"the cell did not get to its end; logs: {self.outcome.run}"]
        out = self.trouble()
        remarks = len([line for line in self.outcome.findings() if "snp_decommission_context" in line])
        if remarks > (cell.guest != "none"):
            out.append(f"KVM remarks {remarks} times that it cannot end a guest")
        if cell.door == "unload" and cell.guest != "none":
            # A guest that runs changes its pages meanwhile.
            pages = self.before.assigned if cell.guest == "running" and self.after.assigned else self.after.assigned
            if self.commands or State(pages, self.after.snp_en) != self.before or "done" in self.tried:
                out.append(f"unloaded under a guest: {self.tried}, {self.after}")
            if self.said() != "-":
                out.append(f"the log says '{self.said()}' of what was not left")
            return out
        if cell.door in ("unbind", "remove", "unload") and set(self.tried) != {"done"}:
            out.append(f"the device stays: {self.tried}")
        guests, cleared = cell.guest != "none", not self.after.snp_en
        # Nobody takes SNP_EN from a CPU while a guest may run on it: in a panic no CPU does any more.
        if cleared and guests and cell.door != "panic":
            out.append("SNP_EN is cleared under a guest")
        # A panic leaves the RMP as it is where no CPU looks at it any more.
        pages = 0 if cell.door == "panic" and cleared else self.after.assigned
        if not guests and cell.firmware == "x86" and not (cleared and pages == 0):
            out.append(f"without guests nothing stays, and here {self.after}")
        if not guests and cell.firmware == "legacy" and (cleared or self.after.assigned):
            out.append(f"without guests SNP_EN stays, and no page, and here {self.after}")
        expected = {
            "none": {"x86": "-", "legacy": "-", "refuses": "stays up"},
            "guest": {"x86": "guests keep memory", "legacy": "guests keep memory", "refuses": "stays up"},
        }
        if cell.door == "panic":
            expected = {
                "none": {"x86": "all memory usable", "legacy": "SNP_EN stays", "refuses": "not shut down"},
                # Firmware does not stop under a guest, and a panic cannot end one.
                "guest": dict.fromkeys(FIRMWARE, "not shut down"),
            }  # fmt: skip
        if self.said() != (say := expected["guest" if guests else "none"][cell.firmware]):
            out.append(f"the log says '{self.said()}', not '{say}'")
        told = re.search(r"(\d+) (?:SNP )?guest\(s\)", self.kernel())
        if guests and (not told or told[1] != "1"):
            out.append("the log does not say how many guests there are")
        if self.end and guests and self.end.snp_en != self.after.snp_en:
            out.append(f"SNP_EN changes afterwards: {self.end}")
        return out

    def line(self) -> str:
        """The row as Documentation shows it."""
        name = f"{self.cell.door} (panic_on_oops)" if self.cell.oops_panics else self.cell.door
        if self.cell.door == "unload" and self.cell.guest != "none" and self.tried[:1] != ["done"]:
            name += " (refused)"
        fields = [name, self.cell.guest, self.cell.firmware]
        own = [entry for entry in self.commands if entry["cmd"] not in UNTOLD]
        told = " ".join(entry["cmd"] + ("" if entry.get("status") == 0 else "!") for entry in own) or "-"
        if self.after:
            trouble = "yes" if self.trouble() or self.failure() else "no"
            # A running guest changes its pages all the time.
            pages = "some" if self.cell.guest == "running" and self.after.assigned else self.after.assigned
            fields += [self.after.snp_en or "none", pages, trouble, self.said(), told]
        else:
            fields += ["?", "?", "yes", self.said(), told]
        return "| " + " | ".join(map(str, fields)) + " |"


HEADING = (
    "| door | guest | firmware | SNP_EN after | pages after | trouble | log | PSP commands |\n"
    "|---|---|---|---|---|---|---|---|"
)


def cells(driver: str) -> list[Cell]:
    out = [Cell(driver, door, guest, firmware) for door in DOORS for guest in GUESTS for firmware in FIRMWARE]
    # Where the kernel may get an invalid opcode.
    return out + [Cell(driver, door, "running", "x86", True) for door in ("reboot", "kexec", "unbind")]


def sample(driver: str) -> list[Cell]:
    """Every door and every value of the other dimensions, with a guest where that matters most."""
    chosen = [
        ("reboot", "running", "x86", True),
        ("kexec", "running", "x86"),
        ("kexec", "none", "legacy"),
        ("panic", "none", "legacy"),
        ("panic", "launched", "x86"),
        ("unbind", "launched", "refuses"),
        ("remove", "none", "x86"),
        ("unload", "launched", "x86"),
    ]
    return [Cell(driver, *cell) for cell in (chosen if driver == "ours" else chosen[:1])]


def state(words: str) -> State:
    fields = dict(word.split("=", 1) for word in words.split())
    return State(int(fields["assigned"]), fields["snp_en"])


def row(cell: Cell, outcome: suite.Outcome) -> Row:
    states = {when: state(words) for when, words in (value.split(" ", 1) for value in outcome.values("state"))}
    if cell.door in ENDS and outcome.rmp and "left" in [line.removeprefix("@") for line in outcome.lines]:
        # Nobody inside can look any more.
        states["after"] = State(outcome.rmp["assigned"], ",".join(map(str, outcome.rmp["cpus_with_snp_en"])))
    phases = suite.sections(outcome.trace, r"phase (\w+)", lambda entry: entry.get("text", ""))
    commands = [entry for entry in phases.get("leave", []) if "cmd" in entry]
    before, after, end = (states.get(when) for when in ("before", "after", "end"))
    return Row(cell, outcome, before, after, end, outcome.values("try"), commands)


def run(chosen: list[Cell]) -> Iterator[Row]:
    """A machine for each cell: most of them end with it."""
    for cell in chosen:
        for outcome in suite.run(cell.config(), SCENARIO, [cell.case()], LIMIT, "leave"):
            yield row(cell, outcome)


def table(driver: str) -> Path:
    return paths.TOP / f"Documentation/generated/leaving-{driver}.md"


def update(driver: str, words: list[str]) -> None:
    """Run the cells of a driver, or only those that have all of `words` in their names, or the "sample", and write
    each row into the driver's table as it comes. The other rows stay as they are."""
    chosen = [cell for cell in cells(driver) if set(words) <= set(cell.name.split("/"))]
    if words == ["sample"]:
        chosen = sample(driver)
    old = table(driver).read_text()
    head = old.partition("\n| ")[0].rstrip("\n")
    lines = {cell: line for cell in cells(driver) for line in old.splitlines() if key(line) == key_of(cell)}
    for result in run(chosen):
        lines[result.cell] = result.line()
        print(result.line(), *(f"    {complaint}" for complaint in result.complaints()), sep="\n", flush=True)
        rows = "\n".join([HEADING, *(lines[cell] for cell in cells(driver) if cell in lines)])
        table(driver).write_text(f"{head}\n\n{rows}\n")


def key(line: str) -> tuple[str, ...]:
    """Which cell a line of the table is about."""
    return tuple(field.strip().removesuffix(" (refused)") for field in line.split("|")[1:4])


def key_of(cell: Cell) -> tuple[str, ...]:
    return (f"{cell.door} (panic_on_oops)" if cell.oops_panics else cell.door, cell.guest, cell.firmware)


if __name__ == "__main__":
    drivers = [name for name in sys.argv[1:] if name in DRIVERS]
    for name in drivers or DRIVERS:
        update(name, [word for word in sys.argv[1:] if word not in DRIVERS])
