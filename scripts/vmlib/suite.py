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

from . import console
from .machine import Config, Machine, NoResult, VmError, describe, overruns


@dataclasses.dataclass(frozen=True)
class Case:
    name: str  # one word
    words: str = ""  # what the scenario's function gets besides


@dataclasses.dataclass
class Outcome:
    """What happened from the time when the case was handed out until the next was asked for."""

    case: Case
    lines: list[str] = dataclasses.field(default_factory=list)  # output of the scenario
    kernel: list[str] = dataclasses.field(default_factory=list)  # kernel messages, without time stamps
    trace: list[dict] = dataclasses.field(default_factory=list)  # of the PSP model
    seconds: float = 0
    failure: str | None = None  # why the machine had to be given up
    run: Path | None = None
    reports: list[dict] = dataclasses.field(default_factory=list)  # of the CPU model
    rmp: dict = dataclasses.field(
        default_factory=dict
    )  # of the last case of a machine: what a scan finds after its end

    def splats(self) -> list[str]:
        return (
            console.splats("\n".join(self.kernel))
            + [describe(report) for report in self.reports]
            + overruns(self.trace)
        )

    def values(self, key: str) -> list[str]:
        """What the scenario said of `key`, a line each."""
        return [line.removeprefix(f"@{key} ") for line in self.lines if line.startswith(f"@{key} ")]


class _Boot:
    """One machine's share of the cases."""

    def __init__(self, machine: Machine, waiting: list[Case]):
        self.machine, self.waiting = machine, waiting
        self.done: list[Outcome] = []
        self._since = 0.0
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
        self._since = time.monotonic()
        self.machine.order(f"mark case {case.name}")
        return f"ok {case.name} {case.words}"

    def on_line(self, line: str) -> None:
        if self.done:
            self.done[-1].lines.append(line)

    def _end_case(self) -> None:
        if not self.done:
            return
        self.done[-1].seconds = time.monotonic() - self._since
        for report in self.machine.reports():
            key, count = (report["cpu"], report["report"]), report["count"]
            if count > self._reported.get(key, 0):
                self.done[-1].reports.append(report | {"count": count - self._reported.get(key, 0)})
                self._reported[key] = count

    def finish(self, kernel: str) -> None:
        """Give every case its part of the kernel messages and of the trace."""
        self._end_case()
        messages = sections(
            [re.sub(r"^\[ *\d+\.\d+\] ", "", line) for line in kernel.splitlines()], r"case (\S+) begins", str
        )
        trace = sections(self.machine.trace(), r"case (\S+)", lambda entry: entry.get("text", ""))
        self.done[-1].rmp = self.machine.rmp()
        for outcome in self.done:
            outcome.kernel = messages.get(outcome.case.name, [])
            outcome.trace = trace.get(outcome.case.name, [])


def sections(entries: list, begins: str, text: Callable) -> dict[str, list]:
    """Cut a list into parts: each begins behind an entry whose text is `begins`, whose group is its name.
    What comes before the first belongs to none."""
    out, current = {}, None
    for entry in entries:
        if found := re.fullmatch(begins, text(entry)):
            current = out.setdefault(found[1], [])
        elif current is not None:
            current.append(entry)
    return out


def run(config: Config, scenario: Path, cases: list[Case], limit: float, name: str) -> Iterator[Outcome]:
    """Run `cases` in as many machines as it takes. `limit`: seconds for a boot, and for each case."""
    waiting, once_more = list(cases), True
    while waiting:
        with Machine(config, name) as machine:
            boot, failure = _Boot(machine, waiting), None
            try:
                result = machine.run(scenario, limit=limit, on_line=boot.on_line, on_ask=boot.on_ask)
                if result.status:
                    failure = f"the scenario ended with status {result.status}; logs: {result.run}"
            except VmError as error:
                failure = str(error)
                if once_more and isinstance(error, NoResult):
                    print(f"# once more: {error}", flush=True)
                    once_more, failure = False, None
                    waiting[:0] = [outcome.case for outcome in boot.done[-1:]]
                    del boot.done[-1:]
                    if not boot.done:
                        continue
            if not boot.done:
                raise VmError(failure or f"the scenario asked for no case; logs: {machine.run_dir}")
            boot.finish(machine.console())
        if failure:
            boot.done[-1].failure = failure
        yield from boot.done
