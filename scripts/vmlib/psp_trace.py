# SPDX-License-Identifier: GPL-2.0
"""The PSP model's trace, for people: a list of lines, and rows of a timeline."""

import json
from collections.abc import Iterator
from pathlib import Path

from .drawing import Bar, follow

# Facts of a command that a line shows, as far as it has them, in this order.
FACTS = (
    "gctx", "asid", "handle", "policy", "page_type", "page", "gpa", "message", "vmpck", "sequence", "firmware",
    "page_state", "page_owner", "bad_address", "wrong", "fault",
)  # fmt: skip
NO_FACTS = ("t_us", "event", "mmio_reads", "mmio_writes", "rmpupdate", "psmash", "wbinvd")
BY_CPUS = {"rmpupdate": "RMPUPDATE", "psmash": "PSMASH"}


def read(file: Path) -> list[dict]:
    return [json.loads(line) for line in file.read_text().splitlines()]


def fact(value) -> str:
    """`value` in one word, unless it is a list."""
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)


def facts(entry: dict) -> str:
    """Of a command those that a line has room for, of an event all."""
    names = FACTS if "n" in entry else [name for name in entry if name not in NO_FACTS]
    return " ".join(f"{name}={fact(entry[name])}" for name in names if name in entry)


def since(before: dict[str, int], entry: dict) -> str:
    """What CPUs have done to the RMP since the entry before, whose counts are in `before` and become this one's."""
    done = [(name, entry[key] - before.get(key, 0)) for key, name in BY_CPUS.items() if key in entry]
    before |= {key: entry[key] for key in BY_CPUS if key in entry}
    return ", ".join(f"{count} {name}" for name, count in done if count)


def lines(entries: list[dict]) -> Iterator[str]:
    """One for each command and event, and one where CPUs have changed the RMP between them."""
    counts: dict[str, int] = {}
    for entry in entries:
        at = f"{entry['t_us'] / 1e6:12.6f}"
        if changed := since(counts, entry):
            yield f"{at}  {'':10}  (until now {changed})"
        if "n" in entry:
            yield f"{at}  {entry['took_us']:7} us  {entry['cmd']:<24} {entry['status_name']}  {facts(entry)}".rstrip()
        else:
            yield f"{at}  {'':10}  {entry['event']}: {facts(entry)}".rstrip(": ")


def rows(entries: list[dict]) -> dict[str, list[Bar]]:
    """Commands, what firmware is in, what CPUs did to the RMP, each guest's life, and what else there was."""
    end = max(entry["t_us"] + entry.get("took_us", 0) for entry in entries) / 1e6
    commands = [entry for entry in entries if "n" in entry]
    return {
        "commands": [_command(entry) for entry in commands],
        "SNP": _states(entries, {"SNP_INIT": "up", "SNP_INIT_EX": "up", "SNP_SHUTDOWN_EX": "down"}, end),
        "SEV": _states(entries, {"INIT": "up", "INIT_EX": "up", "SHUTDOWN": "down"}, end),
        "RMP": list(_rmp(entries)),
        **_guests(entries, end),
        "events": [_event(entry) for entry in entries if "event" in entry],
    }


def _command(entry: dict) -> Bar:
    start = entry["t_us"] / 1e6
    hint = f"{entry['cmd']}: {entry['status_name']}, {entry['took_us']} us  {facts(entry)}"
    return Bar(start, start + entry["took_us"] / 1e6, entry["cmd"], "bad" if entry["status"] else "", hint)


def _event(entry: dict) -> Bar:
    start = entry["t_us"] / 1e6
    return Bar(start, start, entry["event"], "event", f"{entry['event']} {facts(entry)}")


def _states(entries: list[dict], states: dict[str, str], end: float) -> list[Bar]:
    """From each command that was answered with SUCCESS, or reset, to the next one that changes the state."""
    bars: list[Bar] = []
    for entry in entries:
        cause = entry.get("event") or entry["cmd"]
        state = states.get(cause)
        if cause == "reset" and bars and bars[-1].text == "up":
            state = "down"
        if state and entry.get("status", 0) == 0:
            follow(bars, Bar(entry["t_us"] / 1e6, end, state, state, f"{state} since {cause}"))
    return bars


def _rmp(entries: list[dict]) -> Iterator[Bar]:
    counts: dict[str, int] = {}
    before = 0.0
    for entry in entries:
        at = entry["t_us"] / 1e6
        if changed := since(counts, entry):
            yield Bar(before, at, changed, "pages", f"{changed} within {at - before:.6f} s")
        before = at


def _guests(entries: list[dict], end: float) -> dict[str, list[Bar]]:
    """A row for each context: launch, from SNP_LAUNCH_FINISH on its run, both until SNP_DECOMMISSION or a reset, and
    its own requests."""
    rows: dict[str, list[Bar]] = {}
    alive: dict[str, tuple[str, Bar]] = {}  # by the context's address, which another guest may have later
    for entry in entries:
        if entry.get("event") == "reset":
            for _, bar in alive.values():
                bar.end = entry["t_us"] / 1e6
            alive.clear()
        if "gctx" not in entry or entry["status"] != 0:
            continue
        start, context, command = entry["t_us"] / 1e6, entry["gctx"], entry["cmd"]
        if command == "SNP_GCTX_CREATE":
            name = f"guest {len(rows) + 1}"
            rows[name] = [Bar(start, end, "launch", "launch", f"{name}, context {context}: launch")]
            alive[context] = (name, rows[name][0])
        if context not in alive:
            continue
        name, now = alive[context]
        if command == "SNP_LAUNCH_FINISH":
            now.end = start
            run = Bar(start, end, "runs", "up", f"{name}: digest {entry.get('digest', 'unknown')}")
            rows[name].append(run)
            alive[context] = (name, run)
        elif command == "SNP_DECOMMISSION":
            now.end = start
            del alive[context]
        elif command == "SNP_GUEST_REQUEST":
            rows[name].append(_command(entry))
    return rows
