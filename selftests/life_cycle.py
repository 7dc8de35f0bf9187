# SPDX-License-Identifier: GPL-2.0
"""The life-cycle table: how the first initialisation of SNP goes × what firmware can do at shutdown × what
happens next × how somebody then tries to bring a CPU to where it has no SNP_EN.

Nothing a driver says of itself counts: the number of outstanding cpu_hotplug_disable() calls is the kernel's
own, the CPUs that have SNP_EN are those of the CPU model, the commands those that the PSP model got.

usage: selftests/life_cycle.py [ours|intree] [WORD...]: run the rows that have each WORD as a field, or all, and
write them into Documentation/generated.
"""

import dataclasses
import re
import sys
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "scripts"))

from vmlib import health, paths, suite  # noqa: E402
from vmlib.machine import Config  # noqa: E402

SCENARIO = paths.VM_SCRIPTS / "life-cycle.sh"
LIMIT = 150  # seconds, for the boot and for the cell

# How the first initialisation goes: what the scenario does, and for the PSP model.
INITS = {
    "ok": "ok",
    "CPU offline": "offline",
    "VM_HSAVE_PA ignored": "ok",
    "SNP_INIT_EX refused": "SNP_INIT_EX@1:status=0x3",
    "SNP_INIT_EX silent": "SNP_INIT_EX@1:silent",
    "SNP_DF_FLUSH refused": "SNP_DF_FLUSH@1:status=0x3",
    "INIT refused": "INIT@1:status=0x3",
}
# Registers that software cannot change: the first initialisation fails when SNP_EN is set already,
# and so do all others.
MSRS = {"VM_HSAVE_PA ignored": ("1:VM_HSAVE_PA=0x1000",)}
FIRMWARE = {"x86": [], "legacy": ["--shutdown=legacy"]}
EVENTS = {
    "-": "none",
    "reload ccp": "ccp",
    "reload kvm_amd": "kvm",
    "rmmod snp_host": "remove",
    "kexec": "kexec",
    "in-tree driver before": "intree",
}
# The in-tree driver has no snp_host, and is no driver before itself.
OURS_ONLY = {"rmmod snp_host", "in-tree driver before"}
ATTEMPTS = ("offline", "smt", "suspend", "online")
BUSY = "Device or resource busy"
# Commands that say nothing about the life cycle, or are repeated for every page.
UNTOLD = {"SNP_PAGE_RECLAIM", "SNP_PLATFORM_STATUS", "PLATFORM_STATUS", "SNP_FEATURE_INFO"}


@dataclasses.dataclass(frozen=True)
class Cell:
    driver: str
    init: str
    firmware: str
    event: str

    @property
    def name(self) -> str:
        return re.sub(r"[^\w/]+", "_", f"{self.driver}/{self.init}/{self.firmware}/{self.event}")

    @property
    def machine(self) -> tuple[str, str, tuple[str, ...], bool]:
        """What cells have in common that can be run one after the other."""
        return self.driver, self.firmware, MSRS.get(self.init, ()), self.event == "kexec"

    def case(self) -> suite.Case:
        # The in-tree driver is there for comparison: the table says what is reported of it.
        allows = (".",) if self.driver == "intree" else health.LEFT if "silent" in self.init else ()
        return suite.Case(self.name, f"{INITS[self.init]} {EVENTS[self.event]}", allows=allows)


@dataclasses.dataclass(frozen=True)
class State:
    """What the machine looks like at one moment."""

    count: int  # outstanding cpu_hotplug_disable() calls, of the kernel
    window: str  # as snp_host calls it; "none" without it
    snp_en: frozenset[int]  # CPUs, of the CPU model
    online: frozenset[int]
    nonzero: int  # entries of the RMP


@dataclasses.dataclass
class Row:
    cell: Cell
    before: State | None  # before the attempts
    after: State | None  # after them
    attempts: dict[str, str]  # what was tried -> "done" or the kernel's error
    others: list[dict]  # what the PSP model was asked by another driver before
    commands: list[dict]  # what it was asked from then on until the attempts
    failure: str | None
    splats: list[str]
    run: Path

    def up(self) -> bool:
        """SNP firmware is up before the attempts: it said so last, or it was not heard of again."""
        up = False
        for entry in self.others + self.commands:
            if entry["cmd"] in ("SNP_INIT", "SNP_INIT_EX"):
                up = up or not entry.get("status")
            elif entry["cmd"] in ("SNP_SHUTDOWN", "SNP_SHUTDOWN_EX") and entry.get("status") == 0:
                up = False
        return up

    def bare(self) -> frozenset[int]:
        """CPUs that run without SNP_EN in the end, while others have it."""
        return self.after.online - self.after.snp_en if self.after and self.after.snp_en else frozenset()

    def must_hold(self) -> bool:
        """What design.md says of the hotplug window, from what was measured alone: while a CPU has SNP_EN
        none may come or go, unless firmware refused SNP_INIT and nothing is assigned in the RMP."""
        return bool(self.before.snp_en) and (self.up() or self.before.nonzero > 0 or not self.refused())

    def refused(self) -> bool:
        """The driver's last SNP_INIT was answered, with an error. Of those before it, it cannot know."""
        inits = [entry for entry in self.commands if entry["cmd"] in ("SNP_INIT", "SNP_INIT_EX")]
        return bool(inits) and inits[-1].get("status", 0) != 0

    def complaints(self) -> list[str]:
        """What is wrong with the row, for a driver that claims to keep the guarantee."""
        if self.failure or not (self.before and self.after):
            return [self.failure or f"the cell did not get to its end; logs: {self.run}"]
        out = list(self.splats)
        hold = self.must_hold()
        for when, state in (("before", self.before), ("after", self.after)):
            if state.count != hold:
                out.append(f"the disable count is {state.count} {when} the attempts, not {hold:d}")
        for attempt in ATTEMPTS:
            said = self.attempts.get(attempt)
            if said == "is off":
                said = self.attempts["online-again"]
            if said != (BUSY if hold else "done"):
                out.append(f"{attempt}: {said}")
        if self.up() and self.bare():
            out.append(f"CPUs {sorted(self.bare())} run without SNP_EN while SNP is up")
        if "remove" in self.attempts and (self.attempts["remove"] == "done") != (not self.before.snp_en):
            out.append(f"rmmod snp_host: {self.attempts['remove']}")
        return out

    def line(self) -> str:
        """The row as Documentation shows it."""
        if not (self.before and self.after):
            cell = f"{self.cell.init} | {self.cell.firmware} | {self.cell.event}"
            return f"| {cell} | the machine did not get to the attempts |"
        words = {"done": "allowed", BUSY: "refused"}
        tried = [words.get(said, said) for said in (self.attempts.get(attempt, "?") for attempt in ATTEMPTS)]
        event = self.cell.event + (
            f" ({'done' if self.attempts['remove'] == 'done' else 'refused'})" if "remove" in self.attempts else ""
        )
        bare = numbers(self.bare()) if self.bare() else "none"
        told = [entry["cmd"] for entry in self.commands if entry["cmd"] not in UNTOLD]
        return (
            "| "
            + " | ".join(
                [
                    self.cell.init,
                    self.cell.firmware,
                    event,
                    *tried,
                    str(self.before.count),
                    numbers(self.before.snp_en) or "none",
                    bare,
                    "yes" if self.splats else "no",
                    " ".join(told),
                ]
            )
            + " |"
        )


def numbers(cpus: frozenset[int]) -> str:
    return ",".join(map(str, sorted(cpus)))


HEADING = (
    "| first initialisation | firmware | then | CPU off | SMT off | suspend | CPU on | count | SNP_EN | bare CPUs | "
    "reports | PSP commands |\n"
    "|---|---|---|---|---|---|---|---|---|---|---|---|"
)


def cells(driver: str) -> list[Cell]:
    return [
        Cell(driver, init, firmware, event)
        for init in INITS
        for firmware in FIRMWARE
        for event in EVENTS
        if driver == "ours" or event not in OURS_ONLY
    ]


def sample(driver: str) -> list[Cell]:
    """Every value of every dimension. Of the in-tree driver, which is there for comparison, the
    initialisation that succeeds alone."""
    inits = list(INITS) if driver == "ours" else ["ok"] * len(FIRMWARE)
    events = list(dict.fromkeys(cell.event for cell in cells(driver)))
    firmware = list(FIRMWARE)
    return [Cell(driver, init, firmware[n % len(firmware)], events[n % len(events)]) for n, init in enumerate(inits)]


def run(chosen: list[Cell]) -> Iterator[Row]:
    for machine in dict.fromkeys(cell.machine for cell in chosen):
        mine = {cell.name: cell for cell in chosen if cell.machine == machine}
        driver, firmware, msr, kexec = machine
        config = Config(
            driver=driver, psp=FIRMWARE[firmware], msr=list(msr), kexec=kexec, threads=2, more_cpus=2,
            # After a suspend the in-tree driver hears nothing of the answer to its last command any more: it would
            # wait 100 s for it when the machine restarts.
            append="ccp.psp_cmd_timeout=10" if driver == "intree" else "",
        )  # fmt: skip
        for outcome in suite.run(config, SCENARIO, [cell.case() for cell in mine.values()], LIMIT, "life-cycle"):
            yield row(mine[outcome.case.name], outcome)


def cpu_set(text: str) -> frozenset[int]:
    """0,2-3 → {0, 2, 3}"""
    bounds = [part.split("-") for part in text.split(",") if part]
    return frozenset(cpu for bound in bounds for cpu in range(int(bound[0]), int(bound[-1]) + 1))


def state(words: str) -> State:
    fields = dict(word.split("=", 1) for word in words.split())
    return State(
        int(fields["count"]),
        fields["window"],
        cpu_set(fields["snp_en"]),
        cpu_set(fields["online"]),
        int(fields["nonzero"]),
    )


def row(cell: Cell, outcome: suite.Outcome) -> Row:
    states = {when: state(words) for when, words in (value.split(" ", 1) for value in outcome.values("state"))}
    phases = suite.sections(outcome.trace, r"phase (\w+)", lambda entry: entry.get("text", ""))
    commands = {phase: [entry for entry in entries if "cmd" in entry] for phase, entries in phases.items()}
    return Row(
        cell=cell,
        before=states.get("event"),
        after=states.get("attempts"),
        attempts=dict(value.split(" ", 1) for value in outcome.values("try")),
        others=commands.get("before", []),
        commands=commands.get("initialise", []) + commands.get("event", []),
        failure=outcome.failure,
        splats=health.judge(outcome.findings(), allows=health.LEFT),
        run=outcome.run,
    )


def table(driver: str) -> Path:
    return paths.TOP / f"Documentation/generated/life-cycle-{driver}.md"


def update(driver: str, words: list[str]) -> None:
    """Run the cells of a driver, or only those that have all of `words` as fields, and write each row into
    the driver's table as it comes. The other rows stay as they are."""
    old = table(driver).read_text()
    head = old.partition("\n| ")[0]
    lines = {
        cell: line
        for cell in cells(driver)
        for line in old.splitlines()
        if line.startswith(f"| {cell.init} | {cell.firmware} | {cell.event} ")
    }
    for result in run([cell for cell in cells(driver) if set(words) <= {cell.init, cell.firmware, cell.event}]):
        lines[result.cell] = result.line()
        print(result.line(), *(f"    {complaint}" for complaint in result.complaints()), sep="\n", flush=True)
        rows = "\n".join([HEADING, *(lines[cell] for cell in cells(driver) if cell in lines)])
        table(driver).write_text(f"{head}\n{rows}\n")


if __name__ == "__main__":
    drivers = [name for name in sys.argv[1:] if name in ("ours", "intree")]
    for name in drivers or ["ours", "intree"]:
        update(name, [word for word in sys.argv[1:] if word not in drivers])
