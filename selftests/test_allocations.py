# SPDX-License-Identifier: GPL-2.0
"""Every allocation that our modules make, or that is made for them, fails in turn: while they are loaded,
while SNP is initialised, while a guest is launched, in calls of /dev/sev, at shutdown and unload.
Each time: bounded time, -ENOMEM or a fall-back that works, no report of the debug kernel, nothing
lost, and the next attempt succeeds.

The kernel counts (/proc/self/fail-nth) allocations with a function of our modules on the stack;
selftests/vm/allocations.sh has the details. `make test-long` lets all fail. `make test` takes a part of them, another
one each day (`--turn N`: that of a certain day), and always the first one in each function of the kernel that our
modules register something with.
"""

import dataclasses
import functools
import re
import subprocess
from pathlib import Path

import pytest
from conftest import Config, paths
from vmlib import console, kernels, suite, test_modules

# Operation -> the state that it ends in, and in how many turns of `make test` all of its allocations have failed.
LOADED = "modules=snp_host,ccp, node=yes snp=none window=closed disabled=0"
RUNNING = "modules=snp_host,ccp,kvm_amd, node=yes snp=Y window=enabled disabled=1"
NOTHING = "modules= node=no snp=none window=none disabled=0"
OPERATIONS = {
    "ask": (RUNNING, 6),
    "launch": (RUNNING, 6),
    "shutdown": (LOADED, 46),
    "init": (RUNNING, 60),
    "unload": (NOTHING, 20),
    "load": (LOADED, 60),
}
# More than there are.
LAST = 9999
# A PSP that has all services: Genoa, with SEV, TEE and SFS.
EVERYTHING = ("--device=14CA", "--capability=8b")
# Seconds that an operation may take.
BOUND = 20
# Without these, a round that is no success has not said that memory was short.
SHORT_OF_MEMORY = re.compile(
    r"Cannot allocate memory|(no|out of) memory|ENOMEM|error -12|memory was short|Error\(12\)|\(-12\)|ret: -12"
)
# Other messages that explain a failure, and why they name no lack of memory.
OTHER_WORDS = {
    "cannot get an MSI-X or MSI vector": (
        "pci_alloc_irq_vectors() returns the error of its last attempt, MSI, which the PSP does not have"
    ),
    "really_probe: driver_sysfs_add failed": (
        "the device stays without a driver, and really_probe() keeps the error to itself"
    ),
    "device_add_groups() failed": "the same, for the files of the driver in sysfs",
}
# Functions of the kernel that make another error of it, when they are on the stack of the allocation.
OTHER_ERRORS = {
    "module_add_driver": "-EINVAL if it cannot make the directory of the module's drivers in sysfs",
}
# What kvm-amd makes of it without saying why: part of the view -> where.
KVMS_OWN = {
    (
        "state state",
        "modules=snp_host,ccp,kvm_amd, node=yes snp=N window=enabled disabled=1",
    ): "is_sev_snp_initialized() gets no page for SNP_PLATFORM_STATUS",
    ("launch init2", "EIO error=0"): "snp_guest_req_init() does not ask why it gets no page",
    ("launch start", "ENOTTY error=0"): "snp_context_create() returns nothing, and sev_mem_enc_ioctl() -ENOTTY then",
}
# Functions that register what the caller gives them room for.
WITHOUT_MEMORY = {"__cpuhp_setup_state", "atomic_notifier_chain_register", "register_pm_notifier"}
# What is not registered when the modules are loaded, but when SNP is initialised: the helpers that clear the RMP.
LATER = {"alloc_workqueue_noprof"}
# Warnings that are the kernel's own: what is on the stack, and why it is no fault of ours.
KERNELS_OWN = {
    "remove_proc_entry": (
        "free_irq() takes away /proc/irq/N/NAME, which request_irq() goes on without if there is no memory for it"
    ),
}


@dataclasses.dataclass
class Did:
    """What came of an operation."""

    milliseconds: int
    view: dict[str, str]  # status, state, and what the program said line by line


@dataclasses.dataclass
class Round:
    operation: str
    n: int
    base: list[str] = dataclasses.field(default_factory=list)  # the state before, and before the second attempt
    did: dict[str, Did] = dataclasses.field(default_factory=dict)  # "struck", "after"
    left: int = -1  # 0 if the n-th allocation came, and failed

    def total(self) -> int | None:
        """The allocations that the operation makes, if it is known by now."""
        return self.n - self.left if self.left else None


def rounds(lines: list[str]) -> list[Round]:
    out: list[Round] = []
    for line in lines[: lines.index("@end")]:
        key, _, rest = line.removeprefix("@").partition(" ")
        if key == "round":
            operation, n = rest.split()
            out.append(Round(operation, int(n)))
        elif key in ("base", "base-state", "base-pages"):
            out[-1].base.append(f"{key} {rest}")
        elif key in ("struck", "after"):
            status, milliseconds, *words = rest.split()
            out[-1].did[key] = Did(int(milliseconds), {"status": status, "words": " ".join(words)})
        elif key == "struck-fail-nth":
            out[-1].left = int(rest)
        elif found := re.fullmatch(r"(struck|after)-(\w+)", key):
            # Of calls that return data, only the result is the same each time.
            words = rest.split()
            what, result = (found[2], rest) if found[2] in ("state", "pages") else (words[0], " ".join(words[1:3]))
            out[-1].did[found[1]].view.setdefault(f"{found[2]} {what}", result)
    return out


def without_injection(kernel: list[str]) -> list[str]:
    """Kernel messages without the announcements of the failures, which come with a call trace."""
    return re.sub(r"^FAULT_INJECTION:.*?^ </TASK>$", "", "\n".join(kernel), flags=re.M | re.S).splitlines()


def where(kernel: list[str]) -> str:
    """Which allocation failed: the innermost functions, up to the first of ours."""
    trace = re.search(r"^FAULT_INJECTION:.*?<TASK>$(.*?)^ </TASK>$", "\n".join(kernel), re.M | re.S)
    names = re.findall(r"^ (\w\S+)\+0x\S+( \[(?:ccp|snp_host)\])?", trace[1], re.M) if trace else []
    inner = [
        name
        for name, _ in names
        if name not in ("dump_stack_lvl", "dump_stack", "should_fail_ex", "should_failslab", "should_fail_alloc_page")
    ]
    ours = next((n for n, (name, module) in enumerate(names) if module), len(names))
    return " < ".join(inner[: max(ours - len(names) + len(inner) + 1, 1)]) or "an allocation that fails silently"


def complaints(outcome: suite.Outcome, operation: str) -> list[str]:
    if outcome.failure or "@end" not in outcome.lines:
        return [outcome.failure or "a module can be neither loaded nor unloaded any more"]
    done = [this for this in rounds(outcome.lines) if this.operation == operation]
    what = operation.partition("@")[0]
    healthy = next(this for this in rounds(outcome.lines) if this.operation == what).did["after"].view
    messages = suite.sections(outcome.kernel, r"round (\S+)", str)
    out = [] if healthy["state state"] == OPERATIONS[what][0] else [f"{operation} ends in {healthy['state state']}"]
    for this in done:
        kernel = messages.get(f"{operation}-{this.n}", [])
        name = f"{operation}, allocation {this.n} ({where(kernel)})"
        said = without_injection(kernel)
        if any(base != done[0].base[n % 3] for n, base in enumerate(this.base)):
            out.append(f"{name}: before it was {done[0].base[:3]}, and then {this.base}")
        for key, did in this.did.items():
            if did.milliseconds > 1000 * BOUND:
                out.append(f"{name}: {key} took {did.milliseconds} ms")
        differs = {key: value for key, value in this.did["struck"].view.items() if healthy.get(key) != value}
        named = any(
            SHORT_OF_MEMORY.search(line) or any(words in line for words in OTHER_WORDS)
            for line in [*differs.values(), *said]
        )
        named = named or any(function in where(kernel) for function in OTHER_ERRORS)
        if differs and not named and not KVMS_OWN.keys() & differs.items():
            out.append(f"{name}: {differs}, and nobody says that memory is short")
        after = this.did["after"].view if "after" in this.did else {}
        if later := {key: value for key, value in after.items() if healthy.get(key) != value}:
            out.append(f"{name}: the next attempt differs: {later}")
        out += [f"{name}: {line}" for line in splats(said)]
    return out


def left_over(outcome: suite.Outcome) -> list[str]:
    """What is not as it was before, when everything has been unloaded; leaks that kmemleak has found."""
    lines = outcome.lines[outcome.lines.index("@end") + 1 :] if "@end" in outcome.lines else []
    state = [line for line in lines if line.startswith("@base")]
    wrong = [] if state == UNLOADED else [f"at the end: {state}"]
    if not any(int(count) for count in outcome.values("counted")):
        wrong.append("nobody has counted a page")
    return wrong + splats(suite.sections(outcome.kernel, r"round (\S+)", str).get("end", []))


def splats(kernel: list[str]) -> list[str]:
    return console.splats("\n".join(without_kernels_own(kernel)))


def without_kernels_own(kernel: list[str]) -> list[str]:
    """Kernel messages without the warnings in KERNELS_OWN."""
    reports = re.split(r"^(?=WARNING:)", "\n".join(kernel), flags=re.M)
    kept = [
        re.sub(r".*?^ </TASK>$|.*?^---\[ end trace .*?$", "", report, count=1, flags=re.M | re.S)
        if any(name in report.split("\n")[0] for name in KERNELS_OWN)
        else report
        for report in reports
    ]
    return "".join(kept).splitlines()


def text_size(module: Path = paths.OUR_DEBUG_MODULES / "ccp.ko") -> str:
    """Of a module, which the kernel does not tell."""
    table = subprocess.run(["readelf", "-SW", module], check=True, stdout=subprocess.PIPE, text=True).stdout
    return str(int(re.search(r" \.text +PROGBITS +\w+ +\w+ +(\w+)", table)[1], 16))


# What is said after the last round.
UNLOADED = ["@base 0", f"@base-state {NOTHING}", "@base-pages 0"]

HEALTHY = """\
@round load 1
@base 0
@base-state node=yes disabled=0
@base-pages 0
@struck {struck}
@struck-fail-nth 0
@struck-state {nothing}
@struck-pages {pages}
@base 0
@base-state node=yes disabled={disabled}
@base-pages {pages}
@after 0 900
@after-state {loaded}
@after-pages 3
@round load 2
@base 0
@base-state node=yes disabled=0
@base-pages 0
@struck 0 1200
@struck-fail-nth 1
@struck-state {loaded}
@struck-pages 3
@base 0
@base-state node=yes disabled=0
@base-pages 0
@after {after} 900
@after-state {loaded}
@after-pages 3
@end
@ask scan
""" + "\n".join([*UNLOADED, "@counted 12"])


def found_in(kernel: str = "", struck: str = "1 1000 ENOMEM", **words) -> list[str]:
    words = {"struck": struck, "disabled": 0, "after": 0, "pages": 0, "loaded": LOADED, "nothing": NOTHING} | words
    kernel = ["round load-1", *kernel.splitlines(), "round load-2"]
    return complaints(suite.Outcome(suite.Case("load"), HEALTHY.format(**words).splitlines(), kernel), "load")


def test_a_page_is_noticed():
    """Also where the failure excuses that the operation ends otherwise."""
    assert not found_in()
    [line] = found_in(pages=1)
    assert "before it was" in line and "base-pages 1" in line


@pytest.mark.parametrize(
    "wrong, struck, disabled, after, kernel",
    [
        ("", "1 1000 modprobe: Cannot allocate memory", 0, 0, ""),
        ("", "0 1000", 0, 0, "ccp 0000:41:00.0: probe with driver ccp failed with error -12"),
        (
            "",
            "1 1000 ENOMEM",
            0,
            0,
            "FAULT_INJECTION: forcing a failure.\nCall Trace:\n <TASK>\n kmalloc+0x1/0x2\n probe+0x1/0x2 [ccp]\n "
            "</TASK>",
        ),
        (
            "",
            "1 1000 ENOMEM",
            0,
            0,
            "WARNING: fs/proc/generic.c:742 at remove_proc_entry+0x1d8/0x290\nCall Trace:\n <TASK>\n </TASK>",
        ),
        ("nobody says", "1 1000 modprobe: Device or resource busy", 0, 0, ""),
        ("took 30000 ms", "1 30000 ENOMEM", 0, 0, ""),
        ("before it was", "1 1000 ENOMEM", 1, 0, ""),
        ("next attempt differs", "1 1000 ENOMEM", 0, 1, ""),
        (
            "WARNING",
            "1 1000 ENOMEM",
            0,
            0,
            "WARNING: rust/ccp/pages.rs:1 at free+0x1/0x2\nCall Trace:\n <TASK>\n </TASK>",
        ),
        (
            "unreferenced",
            "1 1000 ENOMEM",
            0,
            0,
            "unreferenced object 0xffff888007cdfb80 (size 32):\n  backtrace:\n    probe+0x1/0x2",
        ),
    ],
)
def test_rules_notice(wrong, struck, disabled, after, kernel):
    found = found_in(kernel, struck=struck, disabled=disabled, after=after)
    assert bool(found) == bool(wrong) and all(wrong in line or "Call Trace" in line for line in found), found


def test_what_is_left_is_noticed():
    assert not left_over(suite.Outcome(suite.Case("load"), HEALTHY.splitlines()))
    assert left_over(
        suite.Outcome(suite.Case("load"), [line.replace("@base 0", "@base 512") for line in HEALTHY.splitlines()])
    )
    assert left_over(
        suite.Outcome(
            suite.Case("load"), HEALTHY.splitlines(), ["round end", "unreferenced object 0xffff888007cdfb80 (size 32):"]
        )
    )
    for left in ("@base-pages 1\n@counted 12", "@base-pages 0\n@counted 0", "@base-pages 0"):
        lines = HEALTHY.replace("@base-pages 0\n@counted 12", left).splitlines()
        assert left_over(suite.Outcome(suite.Case("load"), lines)), left


REGISTERS = re.compile(r"(?<!un)(?<!de)register|create|setup_state|request|alloc_workqueue")
# Others that have such names, and what only KUnit tests call.
NONE_OF_THEM = re.compile(r"^__asan_|snp_host_|kunit|faux_device|irq_vectors|8firmware")


@functools.cache
def registrations() -> list[str]:
    """OPERATION@FUNCTION: functions of the kernel that our modules call to register something, and when."""
    modules = [kernels.get("debug").ours / name for name in ("snp_host.ko", "ccp.ko")]
    table = subprocess.run(["nm", "-u", *modules], check=True, stdout=subprocess.PIPE, text=True).stdout
    names = sorted(set(re.findall(r"^ +U (\S+)$", table, re.M)))
    names = [name for name in names if REGISTERS.search(name) and not NONE_OF_THEM.search(name)]
    return [f"{'init' if name in LATER else 'load'}@{name}" for name in names]


@functools.cache
def results(long: bool, turn: int) -> dict[str, suite.Outcome]:
    """Operation -> the case that it was in. The sample is one case, because to look for leaks takes long."""
    # Each failure is announced with a call trace; below they are looked at one by one.
    allows = ("Call Trace", *KERNELS_OWN)
    words = {}
    for name, (_, turns) in OPERATIONS.items():
        first = 1 + turn % turns
        # Rounds of a load take little time.
        last = LAST if name == "load" else first
        words[name] = f"{name} 1 1 {LAST}" if long else f"{name} {first} {turns} {last}"
        words[name] += "".join(f" {one} 1 1 1" for one in registrations() if one.startswith(f"{name}@"))
    parts = [[name] for name in OPERATIONS] if long else [list(OPERATIONS)]
    cases = [
        suite.Case(
            part[0] if long else "sample", " ".join([text_size(), *(words[name] for name in part)]), allows=allows
        )
        for part in parts
    ]
    counter = test_modules.build("debug") / "pages_held.ko"
    config = Config(kernel="debug", psp=list(EVERYTHING), files={"pages_held.ko": counter})
    limit = 3600 if long else 300
    outcomes = suite.run(config, paths.VM_SCRIPTS / "allocations.sh", cases, limit, "allocations")
    return {name: outcome for part, outcome in zip(parts, outcomes) for name in part}


@pytest.mark.parametrize("operation", OPERATIONS)
def test_operation(operation, long, turn, note):
    outcome = results(long, turn)[operation]
    wrong = complaints(outcome, operation)
    assert not wrong, f"{outcome.run} (--turn {turn})\n" + "\n".join(wrong)
    done = [this for this in rounds(outcome.lines) if this.operation == operation]
    failed = [this for this in done if not this.left]
    assert failed and (not long or [this.n for this in failed] == list(range(1, len(failed) + 1)))
    turns, total = OPERATIONS[operation][1], next((this.total() for this in done if this.left), None)
    # With fewer turns some would never have theirs. Each allocation of a load is that of several turns.
    assert not long or operation == "load" or total <= turns, (total, turns)
    noticed = [this for this in failed if this.did["struck"].view != this.did["after"].view]
    numbers = ", ".join(str(this.n) for this in failed) if len(failed) < 9 else len(failed)
    note(f"{operation}: allocations that have failed: {numbers}; the caller has noticed {len(noticed)}")


def test_registrations(long, turn, note):
    """What registers something needs memory for it, but for those that have it in a structure of the caller."""
    without = set()
    for operation in registrations():
        outcome = results(long, turn)[operation.partition("@")[0]]
        wrong = complaints(outcome, operation)
        assert not wrong, f"{outcome.run}\n" + "\n".join(wrong)
        [this] = [this for this in rounds(outcome.lines) if this.operation == operation]
        if this.left:
            without.add(operation.partition("@")[2])
    assert without == WITHOUT_MEMORY
    note(f"{len(registrations()) - len(without)} functions that register something fail for want of memory")


def test_nothing_is_left(long, turn):
    for outcome in results(long, turn).values():
        assert not left_over(outcome), outcome.run
