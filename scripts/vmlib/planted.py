# SPDX-License-Identifier: GPL-2.0
"""The modules with all small bugs in them, each behind a switch (selftests/mutate), in a copy of the sources.

A bug has a number, which is another one when the sources change, and a name, which stays as long as its
place does."""

import collections
import dataclasses
import fnmatch
import functools
import hashlib
import json
import os
import re
import shutil
import sys
import tomllib
from pathlib import Path

from . import paths
from .source_copy import SourceCopy

COPY = SourceCopy("by-machine")
TOOL = paths.TOP / "selftests/mutate"
EXPLAINED = TOOL / "unnoticed.toml"
MODULES = ("snp_host", "ccp")
# Names of the bugs that do not compile.
REFUSED = COPY.work / "refused.json"
# Not the driver: its tests, and what only they use.
TESTS = re.compile(r"(^|/)(tests|fake_io|fake_sme|physical|said|script|testing)\.rs$|/testing/|sys/bindings\.rs$")
SUFFIXES = (".rs", ".c", ".h")
BUILD_LIMIT = 900
# So many has mutants.c room for.
MOST = (4096 - 32) * 8

SWITCHES = """
mod mutants {
    extern "C" {
        fn mutant_is_on(id: u32) -> bool;
    }

    /// Whether a bug is switched on. Its place has been executed.
    #[inline(never)]
    pub(crate) fn on(id: u32) -> bool {
        // SAFETY: A function of mutants.c that can be called with any number, and from anywhere.
        unsafe { mutant_is_on(id) }
    }
}
"""

# Crates of host tests that compile files of the driver as they are, and their roots.
HOST_CRATES = {"snp_host": "src/lib.rs", "wire": "src/main.rs"}
HOST_SWITCHES = """
#[allow(dead_code)]
mod mutants {
    use std::{collections::HashSet, env, ffi::OsString, fs, io::Write, sync::LazyLock, sync::Mutex};

    static MUTANT: LazyLock<Option<u32>> = LazyLock::new(|| env::var("MUTANT").ok()?.parse().ok());
    static PATH: LazyLock<Option<OsString>> = LazyLock::new(|| env::var_os("REACHED"));
    static REACHED: Mutex<Option<HashSet<u32>>> = Mutex::new(None);

    /// Whether a bug is switched on, by the variable MUTANT. The file in REACHED gets the numbers whose
    /// places are executed.
    pub(crate) fn on(id: u32) -> bool {
        if let Some(path) = &*PATH {
            let mut reached = REACHED.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
            if reached.get_or_insert_with(HashSet::new).insert(id) {
                let mut file = fs::File::options().create(true).append(true).open(path).unwrap();
                writeln!(file, "{id}").unwrap();
            }
        }
        *MUTANT == Some(id)
    }
}
"""


@dataclasses.dataclass(frozen=True)
class Bug:
    number: int
    name: str
    file: str
    line: int
    function: str
    what: str
    # In the text with all switches: of the change, and of the whole place.
    changed: tuple
    place: tuple

    def matches(self, pattern: str) -> bool:
        return fnmatch.fnmatchcase(self.name if ": " in pattern else self.file, pattern)


def _bugs(listed: str) -> list[Bug]:
    out, seen = [], collections.Counter()
    for entry in json.loads(listed):
        name = f"{entry['file']}: {entry['function']}: {entry['what']}" + (f": {entry['text']}" * bool(entry["text"]))
        seen[name] += 1
        if seen[name] > 1:
            name += f" ({seen[name]})"
        changed, place = (
            tuple((p["line"], p["column"]) for p in positions) for positions in (entry["changed"], entry["place"])
        )
        out.append(
            Bug(entry["id"], name, entry["file"], entry["line"], entry["function"], entry["what"], changed, place)
        )
    if out and out[-1].number >= MOST:
        sys.exit(f"mutate: more than {MOST} bugs; mutants.c has no room for them")
    return out


def _tool(*arguments) -> list[Bug]:
    manifest = TOOL / "Cargo.toml"
    COPY.tree.mkdir(parents=True, exist_ok=True)
    run = COPY.run(
        "cargo", "run", "--quiet", "--release", "--locked", "--manifest-path", manifest, "--", *arguments,
        limit=BUILD_LIMIT,
    )  # fmt: skip
    if run.returncode:
        sys.exit(f"mutate: {run.stdout}")
    return _bugs(run.stdout)


def sources() -> list[str]:
    """The files of the driver, without its tests."""
    names = (str(file.relative_to(paths.TOP)) for file in (paths.TOP / "rust").rglob("*.rs"))
    return sorted(name for name in names if not TESTS.search(name))


@functools.cache
def all_bugs() -> list[Bug]:
    """Those that do not compile as well."""
    return _tool("--list", "--top", paths.TOP, *sources())


def explained() -> dict[str, str]:
    """Names of bugs that change nothing that anybody could notice -> why not."""
    rooms = tomllib.loads(EXPLAINED.read_text())["same"]
    return {name: room["why"] for room in rooms for name in room["bugs"]}


def digest() -> str:
    """Of what decides about a bug: the driver, its tests, and how bugs are planted."""
    directories = ("rust", "include", "selftests/mutate")
    files = [file for name in directories for file in (paths.TOP / name).rglob("*.*") if file.suffix in SUFFIXES]
    return hashlib.sha256(b"".join(file.read_bytes() for file in sorted(files))).hexdigest()[:16]


def _plant(refused: set[str]) -> list[Bug]:
    """Put the bugs into the copy."""
    COPY.refresh()
    without = COPY.work / "without.json"
    without.write_text(json.dumps([bug.number for bug in all_bugs() if bug.name in refused]))
    bugs = _tool("--without", without, "--top", COPY.tree, *sources())
    names = {bug.number: bug.name for bug in all_bugs()}
    bugs = [dataclasses.replace(bug, name=names[bug.number]) for bug in bugs]
    for module in MODULES:
        root = COPY.tree / f"rust/{module}/{module}.rs"
        root.write_text(root.read_text().replace("#![deny(unsafe_code)]", "#![allow(warnings)]") + SWITCHES)
    shutil.copy(TOOL / "mutants.c", COPY.tree / "mutants.c")
    (COPY.tree / "Kbuild").write_text((paths.TOP / "Kbuild").read_text() + "obj-m += mutants.o\n")
    # It compares with the in-tree driver, which has no bugs of ours.
    (COPY.tree / "scripts/check-modules").write_text("#!/bin/sh\n")
    return bugs


def _innermost(places: list[Bug]) -> set[str]:
    inner = max(places, key=lambda bug: bug.place[0], default=None)
    return {bug.name for bug in places if inner and bug.place == inner.place}


def _refused(output: str, bugs: list[Bug]) -> set[str]:
    """The bugs that the compiler refuses: by the places of its errors."""
    out = set()
    by_file = collections.defaultdict(list)
    for bug in bugs:
        by_file[bug.file].append(bug)
    for block in re.split(r"\n(?=error|warning)", output):
        if not (at := re.search(r"^error.*?--> (\S+):(\d+):(\d+)", block, re.S)):
            continue
        here = by_file[os.path.relpath(COPY.tree / at[1], COPY.tree)]
        at = int(at[2]), int(at[3])
        found = {bug.name for bug in here if bug.changed[0] <= at <= bug.changed[1]}
        # An error outside of all changes is about the place that has them, or about another line that it shows.
        places = [bug for bug in here if bug.place[0] <= at <= bug.place[1]]
        if not found and places:
            found = _innermost(places)
        if not found:
            for line in {int(n) for n in re.findall(r"^ *(\d+) +[|/]", block, re.M)}:
                found |= _innermost([bug for bug in here if bug.place[0][0] <= line <= bug.place[1][0]])
        if not found:
            # What comes before it may have given something another type.
            before = [bug for bug in here if bug.place[0] <= at]
            found = _innermost(before)
        out |= found
    return out


def _known_as_refused() -> set[str]:
    return set(json.loads(REFUSED.read_text())) if REFUSED.exists() else set()


def compiling() -> dict[int, Bug]:
    """The bugs of which the compiler has refused none so far, by number."""
    refused = _known_as_refused()
    return {bug.number: bug for bug in all_bugs() if bug.name not in refused}


def build(kernel: str) -> dict[int, Bug]:
    """Build the modules for a kernel with all bugs that compile; those are returned, by number."""
    refused = _known_as_refused()
    done_before = COPY.work / f"built-{kernel}"
    if done_before.exists() and done_before.read_text() == digest():
        return compiling()
    while True:
        bugs = _plant(refused)
        print(f"mutate: building for the {kernel} kernel with {len(bugs)} bugs", flush=True)
        done = COPY.run("scripts/build-modules", "--kernel", kernel, limit=BUILD_LIMIT)
        if done.returncode == 0:
            done_before.write_text(digest())
            return {bug.number: bug for bug in bugs}
        more = _refused(done.stdout, bugs) - refused
        if not more:
            log = COPY.work / "build.log"
            log.write_text(done.stdout)
            sys.exit(f"mutate: it does not build; the whole log is {log}\n{done.stdout[-2000:]}")
        print(f"mutate: the compiler refuses {len(more)}", flush=True)
        refused |= more
        REFUSED.write_text(json.dumps(sorted(refused)))


def host_tests() -> list[Path]:
    """Build the host tests with the bugs that are planted; returns their programs."""
    out = []
    for crate, root in HOST_CRATES.items():
        source = Path("selftests") / crate / root
        text = (paths.TOP / source).read_text() + HOST_SWITCHES
        if (COPY.tree / source).read_text() != text:
            (COPY.tree / source).write_text(text)
        manifest = f"selftests/{crate}/Cargo.toml"
        done = COPY.run(
            "cargo", "test", "--no-run", "--quiet", "--locked", "--release", "--message-format=json",
            "--manifest-path", manifest, limit=BUILD_LIMIT,
        )  # fmt: skip
        messages = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
        if done.returncode:
            errors = "".join(m["message"]["rendered"] for m in messages if "message" in m)
            sys.exit(f"mutate: the host tests do not build\n{errors[-3000:]}")
        out += [Path(m["executable"]) for m in messages if m.get("executable")]
    return out
