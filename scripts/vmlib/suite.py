# SPDX-License-Identifier: GPL-2.0
"""Many cases in few boots.

A suite's scenario (selftests/vm) asks for one case after the other (`cases` in lib.sh) and cleans up
behind each by unloading the modules. A case that leaves the machine in a state that only a restart ends
says so, and the next one gets a new machine; so does the one after a case that hangs or kills it.
"""

import dataclasses
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from . import health
from .machine import Config, Machine, NoResult, VmError


@dataclasses.dataclass(frozen=True)
class Case:
    name: str  # one word
    words: str = ""  # what the scenario's function gets besides
    expects: tuple[str, ...] = ()  # findings that it must have (health.py)
    allows: tuple[str, ...] = ()  # and those that it may have
    ends: str | None = None  # what Machine.run says of a machine that ends, as this case wants it


@dataclasses.dataclass
class Outcome:
    """What happened from the time when the case was handed out until the next was asked for."""

    case: Case
    lines: list[str] = dataclasses.field(default_factory=list)  # output of the scenario
    kernel: list[str] = dataclasses.field(default_factory=list)  # kernel messages, without time stamps
    trace: list[dict] = dataclasses.field(default_factory=list)  # of the PSP model
    other_traces: list[list[dict]] = dataclasses.field(default_factory=list)  # of the further PSPs
    seconds: float = 0
    # Why the case went wrong: the machine had to be given up, or was not healthy.
    failure: str | None = None
    run: Path | None = None
    evidence: health.Evidence = dataclasses.field(default_factory=health.Evidence)
    rmp: dict = dataclasses.field(
        default_factory=dict
    )  # of the last case of a machine: what a scan finds after its end

    def findings(self) -> list[str]:
        """What a healthy case does not have."""
        return self.evidence.findings()

    def judge(self, failure: str | None) -> None:
        """Say what went wrong; `failure` is what became of the machine."""
        if self.case.ends:
            self.evidence.kernel = health.until_its_end(self.evidence.kernel)
            if failure and re.search(self.case.ends, failure):
                failure, self.evidence.left = None, 0
            elif not failure:
                failure = f"the machine did not end as it should: {self.case.ends}"
        wrong = health.judge(self.findings(), self.case.expects, self.case.allows)
        if wrong and not failure:
            failure = f"not healthy: {'; '.join(wrong)}"
        elif failure:
            failure = "\n".join([failure, *wrong])
        self.failure = failure

    def values(self, key: str) -> list[str]:
        """What the scenario said of `key`, a line each."""
        return [line.removeprefix(f"@{key} ") for line in self.lines if line.startswith(f"@{key} ")]

    # As `machine.Result` has them.
    @property
    def console(self) -> str:
        return "\n".join(self.kernel)

    def commands(self) -> list[dict]:
        return [entry for entry in self.trace if "cmd" in entry]


class _Boot:
    """One machine's share of the cases."""

    def __init__(self, machine: Machine, waiting: list[Case]):
        self.machine, self.waiting = machine, waiting
        self.done: list[Outcome] = []
        self._since = 0.0
        self._open = False  # a case is going on
        self._seen = health.Evidence()
        self._reported: dict[tuple[int, str], int] = {}

    def on_ask(self, question: str) -> str | None:
        if question == "again" and self.done:
            # Another kernel goes on with the case (next_kernel in lib.sh).
            return f"ok {self.done[-1].case.name} {self.done[-1].case.words}"
        if question != "next":
            return None
        self._end_case()
        if not self.waiting:
            return "ok"
        case = self.waiting.pop(0)
        self.done.append(Outcome(case, run=self.machine.run_dir))
        self._since, self._open = time.monotonic(), True
        for n in self.machine.psps():
            self.machine.order(f"mark case {case.name}", n)
        return f"ok {case.name} {case.words}"

    def on_line(self, line: str) -> None:
        if self.done:
            self.done[-1].lines.append(line)

    def _end_case(self) -> None:
        """What the models have seen since the case before goes to this one, and to the first what came before it."""
        if not self._open:
            return
        self._open = False
        outcome, now = self.done[-1], self.machine.models()
        outcome.seconds = time.monotonic() - self._since
        for report in now.reports:
            key, count = (report["cpu"], report["report"]), report["count"]
            if count > self._reported.get(key, 0):
                outcome.evidence.reports.append(report | {"count": count - self._reported.get(key, 0)})
                self._reported[key] = count
        outcome.evidence.notes = now.notes[len(self._seen.notes) :]
        outcome.evidence.complaints = now.complaints[len(self._seen.complaints) :]
        outcome.evidence.left = now.left - self._seen.left
        self._seen = now

    def take_back(self) -> Case:
        """The case that goes on is none of this boot's."""
        self._open = False
        return self.done.pop().case

    def finish(self, failure: str | None) -> None:
        """Give every case its part of the kernel messages and of the trace, and ask whether it was healthy.
        `failure` is the last one's."""
        self._end_case()
        kernel = sections(self.machine.console().splitlines(), r"case (\S+) begins", without_stamp)
        trace, *others = (
            sections(self.machine.trace(n), r"case (\S+)", lambda entry: entry.get("text", ""))
            for n in self.machine.psps() or [0]
        )
        last = self.done[-1]
        last.rmp = self.machine.rmp()
        for outcome in self.done:
            name, first = outcome.case.name, outcome is self.done[0]
            said, outcome.trace = kernel.get(name, []), trace.get(name, [])
            outcome.kernel = [without_stamp(line) for line in said]
            outcome.evidence.kernel = "\n".join((kernel.get(None, []) if first else []) + said)
            outcome.other_traces = [other.get(name, []) for other in others]
            outcome.evidence.trace = [
                entry for one in (trace, *others) for entry in (one.get(None, []) if first else []) + one.get(name, [])
            ]
            outcome.judge(failure if outcome is last else None)
            if outcome.failure:
                with (outcome.run / "failure").open("a") as file:
                    file.write(f"{name}: {outcome.failure}\n")


def without_stamp(line: str) -> str:
    return re.sub(r"^\[ *\d+\.\d+\] ", "", line)


def sections(entries: list, begins: str, text: Callable) -> dict[str | None, list]:
    """Cut a list into parts: each begins behind an entry whose text is `begins`, whose group is its name.
    What comes before the first has the name None."""
    out, current = {}, None
    for entry in entries:
        if found := re.fullmatch(begins, text(entry)):
            current = found[1]
            out.setdefault(current, [])
        else:
            out.setdefault(current, []).append(entry)
    return out


def run(
    config: Config, scenario: Path, cases: list[Case], limit: float, name: str, boot_limit: float = 0
) -> Iterator[Outcome]:
    """Run `cases` in as many machines as it takes. `limit`: seconds for each case, and for a boot, if `boot_limit` is
    not more."""
    waiting, once_more = list(cases), True
    while waiting:
        with Machine(config, name) as machine:
            boot, failure = _Boot(machine, waiting), None
            try:
                result = machine.run(
                    scenario,
                    limit=max(limit, boot_limit),
                    then=limit,
                    on_line=boot.on_line,
                    on_ask=boot.on_ask,
                    judge=False,
                )
                if result.status:
                    failure = f"the scenario ended with status {result.status}; logs: {result.run}"
            except VmError as error:
                failure = str(error)
                if once_more and isinstance(error, NoResult):
                    print(f"# once more: {error}", flush=True)
                    once_more, failure = False, None
                    if boot.done:
                        waiting.insert(0, boot.take_back())
                    if not boot.done:
                        continue
            if not boot.done:
                raise VmError(failure or f"the scenario asked for no case; logs: {machine.run_dir}")
            boot.finish(failure)
        yield from boot.done
