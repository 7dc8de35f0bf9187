# SPDX-License-Identifier: GPL-2.0
"""Was this run healthy? The one question that is asked after every run, and after every case of a suite.

`Machine.run` asks it for a run, `suite.run` for each case. What a run or a case is about, and a healthy one does not
have, it names: `expects` must happen, `allows` may (a race, or another driver's defect). Both are regular expressions
for findings as they are written here.
"""

import dataclasses
import re
from collections import Counter

from . import console

# Trace events of the PSP model that no healthy machine has.
_EVENTS = {"doorbell while busy", "interrupt not set up"}
# What the CPU model notes when something went wrong that is no report of its own.
_NOTES = re.compile(r"#VMEXIT at|ends with VMEXIT_INVALID: |first #GP|not patched")
# What firmware keeps that does not stop or does not answer. Whoever allows it counts it.
LEFT = (r"^RMP: ", r"are lost until the machine restarts", r"Leaking PFN range")
_NO_FINDINGS = (
    # Of a VMSA that a guest brings itself (AP_CREATE) KVM looks at the guest's address, not at where the page lies, and
    # one page in 512 starts 2 MiB.
    r": aligned-in-use, ",
    # So our driver asks whether firmware was reset: as long as SNP is up it refuses a page of the host's.
    r": page named after it came back, \w+, at SNP_PLATFORM_STATUS$",
)
# From here on the kernel's words are about its end, which Machine.run tells of.
_END = re.compile(r"Kernel panic - not syncing|sysrq: Trigger a crash")


class Unhealthy(AssertionError):
    """Something that nobody expected, or that somebody expected in vain. No VmError: it is not to be caught by those
    who expect a machine to end."""


@dataclasses.dataclass
class Evidence:
    """What a run or a case has left behind."""

    kernel: str = ""  # its messages
    trace: list[dict] = dataclasses.field(default_factory=list)  # of all PSP models
    reports: list[dict] = dataclasses.field(default_factory=list)  # of the CPU model
    notes: list[str] = dataclasses.field(default_factory=list)  # lines of its log
    complaints: list[str] = dataclasses.field(default_factory=list)  # lines of the PSP models' logs, which are empty
    left: int = 0  # entries of the RMP that are assigned and were not before

    def findings(self) -> list[str]:
        """What a healthy run does not have."""
        out = [f"kernel: {line}" for line in _splats(self.kernel)]
        out += [describe(report) for report in self.reports]
        out += [f"CPU model: {line}" for line in self.notes if _NOTES.search(line)]
        out += [f"PSP model: {line}" for line in self.complaints]
        events = Counter(
            entry["event"] + (f" ({entry['id']:#x})" if "id" in entry else "")
            for entry in self.trace
            if entry.get("event") in _EVENTS
        )
        out += [f"PSP model: {event}, {count} times" for event, count in events.items()]
        out += contradictions(self.kernel)
        reports = [entry for entry in self.trace if "event" in entry and "address" in entry]
        out += [f"PSP model: {entry['event']}, {entry['address']}, at {entry['command']}" for entry in reports]
        if self.left > 0:
            out.append(f"RMP: {self.left} entries are left assigned")
        return out


_STAMP = re.compile(r"^\[ *(\d+\.\d+)\] (.*)", re.M)
_SYSFS = re.compile(
    r"sysfs: state=(\S*) open_seconds=(\S*) snp_en_cpus=(\S*) online=(\S*) lost_pages=(\S*) reason=(.*)"
)
_ENABLED, _CLOSED = "SNP is enabled on all CPUs", "SNP is not in use"


def contradictions(kernel: str) -> list[str]:
    """Where the files of our modules (`sysfs` in selftests/vm/lib.sh) say other things than their messages do."""
    out = []
    window = opened = held = None  # not known yet
    began = 0.0  # to read the files
    lost = {"0"}  # what lost_pages may say
    for stamp, text in _STAMP.findall(kernel):
        if text.startswith("Linux version"):
            window = opened = held = None
        elif "snp_host: hotplug window opened" in text:
            window, opened, held = "open", float(stamp), None
        elif found := re.search(r"snp_host: hotplug window stays open: (.*?)\. CPU hotplug", text):
            held = found[1]
        elif "snp_host: hotplug window closed" in text:
            window, opened, held = "closed", None, None
        elif found := re.search(r"^ccp: .*; (\d+) lost so far", text):
            lost = {found[1]}
        elif re.search(r"^ccp \S+: SEV enabled", text):
            lost |= {"0"}  # another PSP, or the module has been loaded again
        elif text == "sysfs: now":
            began = float(stamp)
        elif found := _SYSFS.match(text):
            state, seconds, snp_en, online, pages, reason = found.groups()
            wrong = {
                "closed": window == "open" or seconds != "0" or reason == _ENABLED or (reason == _CLOSED and snp_en),
                "enabled": window == "closed" or reason != _ENABLED or snp_en != online,
                "held": window == "closed" or (window and reason != held),
            }
            if wrong.get(state, True):
                out.append(f"{text}, and the log says {window}, {held}")
            elif opened and not began - opened - 2 <= float(seconds) <= float(stamp) - opened + 2:
                out.append(f"{text}, and the log says that it was opened {began - opened:.0f} s before")
            if pages not in {"", *lost}:
                out.append(f"{text}, and the log says {' or '.join(sorted(lost))} pages")
            if not pages:
                lost = {"0"}
    return out


def describe(report: dict) -> str:
    """A report of the CPU model in words."""
    where = f"first at pc {report['pc']} address {report['address']}"
    return f"CPU model: CPU {report['cpu']}: {report['report']}, {report['count']} times, {where}"


def judge(findings: list[str], expects: tuple[str, ...] = (), allows: tuple[str, ...] = ()) -> list[str]:
    """What is wrong with a run that had these findings."""
    names = (*expects, *allows, *_NO_FINDINGS)
    strange = [finding for finding in findings if not any(re.search(name, finding) for name in names)]
    in_vain = [name for name in expects if not any(re.search(name, finding) for finding in findings)]
    return strange + [f"expected, and did not happen: {name}" for name in in_vain]


def until_its_end(kernel: str) -> str:
    """The messages of a kernel up to its panic."""
    found = _END.search(kernel)
    return kernel[: found.start()] if found else kernel


def _splats(kernel: str) -> list[str]:
    """Messages of the kernel's own checks. The call traces that come with them are no further ones."""
    found = [re.sub(r"^\[ *\d+\.\d+\] ", "", line) for line in console.splats(kernel)]
    return [line for line in found if "Call Trace" not in line] or found
