# SPDX-License-Identifier: GPL-2.0
"""The modules' trace events say what firmware and the RMP saw."""

import json
import re
import subprocess
from collections import Counter

from conftest import boot, paths, values
from vmlib import suite

LINE = re.compile(r" *(.+)-\d+ .* ([a-z_]+): (.*)")


def test_events():
    """The events of commands are the commands that the PSP model saw; those of pages leave nothing behind."""
    result = boot("trace-events.sh", expects=("are lost until",), allows=("Call Trace",))
    assert result.status == 0, result.lines
    lines = values(result, "trace")
    events = []
    for task, name, fields in (match.groups() for match in map(LINE.fullmatch, lines) if match):
        events.append((task, name, dict(field.split("=", 1) for field in fields.split())))

    done = [(event["name"], int(event["status"], 0)) for _, name, event in events if name == "ccp_command_done"]
    sections = suite.sections(result.trace, r"(\S+)", lambda entry: entry.get("text", ""))
    seen = [(entry["cmd"], entry["status"]) for entry in sections["traced"] if "cmd" in entry]
    assert done == seen and len(done) > 50
    assert ("PLATFORM_STATUS", 1) in done
    started = [event["id"] for _, name, event in events if name == "ccp_command_start"]
    assert started == [event["id"] for _, name, event in events if name == "ccp_command_done"]
    slow = [int(event["us"]) for _, name, event in events if event.get("name") == "SNP_INIT_EX" and "us" in event]
    assert len(slow) == 1 and 0 < slow[0] < 60_000_000
    took = {event["status"]: int(event["us"]) for _, name, event in events if name == "ccp_command_done"}
    # The model answers late by 300 ms.
    assert 300_000 <= took["0x1"] < 30_000_000
    # Who caused it.
    callers = {
        task for task, name, event in events if name == "ccp_command_done" and event["name"] == "PLATFORM_STATUS"
    }
    assert "sev-ioctl" in callers

    owners = Counter()
    pages = [event for _, name, event in events if name == "ccp_pages"]
    for event in pages:
        owners[event["owner"]] += int(event["count"])
    assert owners["firmware"] == owners["host"] > 512 and set(owners) == {"firmware", "host", "lost"}
    (lost,) = (event for event in pages if event["owner"] == "lost")
    assert lost["count"] == "1" and f"ccp: 1 page(s) from {int(lost['pfn'], 0) << 12:#x} on are lost" in result.console
    # Those of guests alone have an ASID, and a place in the guest.
    assert {(int(event["asid"]), int(event["gpa"], 0)) for event in pages} == {(0, 0)}

    states = [(event["snp"], event["sev"]) for _, name, event in events if name == "ccp_state"]
    assert states == [("up", "up"), ("down", "down")]
    windows = [event["state"] for _, name, event in events if name == "snp_host_window"]
    assert windows == ["preparing", "enabled", "closed"]

    # The timeline has them all.
    timeline = subprocess.run(
        [paths.TOP / "scripts/timeline"], input="\n".join(lines), capture_output=True, text=True, check=True
    )
    rows = drawn(timeline.stdout)
    bars = [bar for row in rows.values() for bar in row if bar[4].endswith(" us")]
    assert len(bars) == len(done) and [bar[3] for bar in bars].count("bad") == sum(status != 0 for _, status in done)
    assert [bar[2] for bar in rows["SNP"]] == ["up", "down"]
    assert [bar[2] for bar in rows["hotplug window"]] == windows


def drawn(page: str) -> dict[str, list]:
    """The rows of a timeline: start, end, text, kind and hint of each bar."""
    assert "http" not in page, "one file that needs nothing else"
    text = re.search(r'<script type="application/json" id="data">\n(.*)\n</script>', page)[1]
    return dict(json.loads(text)["rows"])


def test_a_trace_without_events():
    run = subprocess.run([paths.TOP / "scripts/timeline"], input="# tracer: nop\n", capture_output=True, text=True)
    assert (run.returncode, run.stdout) == (1, "") and "were they enabled?" in run.stderr
