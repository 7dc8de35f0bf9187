# SPDX-License-Identifier: GPL-2.0
"""What both drivers say of failures that hosts have had: failures.toml on the platform, into Documentation/generated.

Of the kernel's messages those are shown that a machine without the failure does not have.
"""

import dataclasses
import itertools
import re
import sys
import tomllib
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "scripts"))

from vmlib import paths  # noqa: E402
from vmlib.machine import Config, Machine, once_more  # noqa: E402

PAGE = paths.TOP / "Documentation/generated/failures.md"
# More ranges than fit the page that SNP_INIT_EX takes.
MANY_RANGES = "nokaslr memmap=" + ",".join(f"1${128 + mib}M" for mib in range(256))
# Steps that get firmware's answer themselves. The log does not have what somebody asked for and was refused.
CALLERS = ("snp-guest", "call,")
STATE = "/sys/kernel/debug/ccp/state"
STATE_TEXT = (
    f"Lines of `{STATE}` are those of the file; all others are the kernel's messages.\n"
    "Neither driver logs what a program was refused."
)
DRIVERS = {"ours": "ccp-rs", "intree": "in-tree"}
# Who speaks of the PSP, of SEV and of SNP.
SPEAKERS = re.compile(r"ccp\b|snp_host\b|kvm_amd\b|SEV\b|SEV-SNP\b|AMD-Vi: SNP|sev-snp\b|BUG|WARNING|Oops")
# Signatures are nothing that a failure is about, and these numbers differ between boots.
UNSIGNED = re.compile(r"\w+: module verification failed")
NUMBERS = {
    r"\bin \d+ ms\b": "in … ms",
    r"\b(PFN range|PFN|page\(s\) from) 0x[0-9a-f-]+(x[0-9a-f]+)?": r"\1 0x…",
    r"\b(CPU)#\d+: (\S+)/\d+": r"\1#…: \2",
}


@dataclasses.dataclass(frozen=True)
class Failure:
    title: str
    reports: tuple[str, ...]
    machine: dict
    steps: tuple[str, ...]


def failures() -> list[Failure]:
    rows = tomllib.loads(Path(__file__).with_suffix(".toml").read_text())["failure"]
    return [Failure(row["title"], tuple(row["reports"]), row["machine"], tuple(row["steps"])) for row in rows]


@dataclasses.dataclass(frozen=True)
class Said:
    """What one driver, and the kernel around it, said of a failure."""

    lines: list[str]
    failed: list[str]  # steps
    offers: str  # of kvm_amd at the end

    def text(self, driver: str) -> str:
        end = "".join(f"; fails: {step}" for step in self.failed) + (f"; {self.offers}" if self.offers else "")
        times = [(line, len(list(same))) for line, same in itertools.groupby(self.lines)] or [("(nothing)", 1)]
        lines = (f"    {line}" + (f" ({n} times)" if n > 1 else "") for line, n in times)
        return "\n".join([f"{DRIVERS[driver]}{end}:", "", *lines])


def run(driver: str, machine: dict, steps: tuple[str, ...]) -> tuple[list[str], list[str]]:
    """The kernel's messages that may be of interest, and what the scenario says."""
    config = machine | {
        "append": machine.get("append", "").replace("MANY_RANGES", MANY_RANGES),
        "files": {inside: paths.TOP / outside for inside, outside in machine.get("files", {}).items()},
    }

    def boot():
        with Machine(Config(driver=driver, **config), "failures") as vm:
            return vm.run(paths.VM_SCRIPTS / "window.sh", [*steps], 240, judge=False)

    result = once_more(boot)
    lines = [re.sub(r"^\[ *[\d.]+\] ", "", line).rstrip() for line in result.console.splitlines()]
    told = [line for line in lines if SPEAKERS.match(line) and not UNSIGNED.match(line)]
    for number, words in NUMBERS.items():
        told = [re.sub(number, words, line) for line in told]
    return told, result.lines


def say(driver: str, failure: Failure, healthy: set[str]) -> Said:
    """Bring it about; `healthy` is what is said without any failure."""
    loaded = "+kvm_amd" in failure.steps and "-kvm_amd" not in failure.steps
    asked = driver == "ours" and any(step.startswith(CALLERS) for step in failure.steps)
    steps = (*failure.steps, *(["error"] if asked else []), *(["offers"] if loaded else []))
    kernel, lines = run(driver, failure.machine, steps)
    failed = [line.split()[1] for line in lines if re.match(r"@did \S+ failed", line)]
    offers = next((line.split()[1:] for line in lines if line.startswith("@offers ")), None)
    words = "kvm-amd offers " + " and ".join(
        [name for name, there in zip(("SEV", "SNP"), offers or ()) if there == "Y"] or ["nothing"]
    )
    told = [line for line in kernel if line not in healthy]
    # Where the kernel refuses something, the reason may have been said at the beginning, as always.
    told += [f"{STATE}: {line.removeprefix('@asids ')}" for line in lines if line.startswith("@asids ")]
    told += [f"{STATE}: last error: {line.removeprefix('@error ')}" for line in lines if line.startswith("@error ")]
    told = told or [line for line in kernel if failed and line.startswith("snp_host: hotplug window opened")]
    return Said(told, failed, words if offers else "")


def section(failure: Failure, said: dict[str, Said]) -> str:
    return "\n\n".join([f"## {failure.title}", *reports(failure), *(said[d].text(d) for d in said)])


def reports(failure: Failure) -> list[str]:
    def link(report: str) -> str:
        repository, _, number = report.partition("#")
        return f"<{report}>" if not number else f"[{report}](https://github.com/{repository}/issues/{number})"

    return ["Reported:\n" + "".join(f"\n* {link(report)}" for report in failure.reports)] if failure.reports else []


def sections(page: str) -> dict[str, str]:
    """A page's sections by their titles."""
    return {part.split("\n", 1)[0]: "## " + part.rstrip() for part in re.split(r"^## ", page, flags=re.M)[1:]}


def healthy(driver: str) -> set[str]:
    return set(run(driver, {}, ("+kvm_amd",))[0])


def update(words: list[str]) -> None:
    """Write the sections anew whose titles have all of `words` in them; without words, all that are not there yet."""
    found = sections(PAGE.read_text()) if PAGE.exists() else {}
    usual = {driver: healthy(driver) for driver in DRIVERS}
    for failure in failures():
        if all(word in failure.title for word in words) if words else failure.title not in found:
            found[failure.title] = section(failure, {d: say(d, failure, usual[d]) for d in DRIVERS})
            print(found[failure.title], "\n", flush=True)
            write(found)


def write(found: dict[str, str]) -> None:
    head = "<!-- Generated by selftests/failures.py; not edited by hand. ../errors.md says more of our lines. -->"
    rows = [found[failure.title] for failure in failures() if failure.title in found]
    PAGE.write_text("\n\n".join([head, "# What both drivers say of failures", STATE_TEXT, *rows]) + "\n")


if __name__ == "__main__":
    update(sys.argv[1:])
