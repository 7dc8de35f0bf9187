# SPDX-License-Identifier: GPL-2.0
"""Formatting and lints: warnings are errors."""

import json
import os
import re
import subprocess

import pytest
from conftest import paths
from vmlib import kernels, planted

TOP = paths.TOP
WORKSPACES = [path.parent for path in sorted([*TOP.glob("selftests/*/Cargo.toml"), *TOP.glob("tools/*/Cargo.toml")])]
SHELL = [p for p in sorted(TOP.glob("scripts/*")) if p.is_file() and p.read_text().startswith("#!/bin/bash")] + [
    TOP / ".ci/run",
    TOP / "tools/host-check/build",
]


def check(*command) -> None:
    run = subprocess.run(
        [str(c) for c in command], cwd=TOP, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    assert run.returncode == 0, run.stdout


@pytest.mark.parametrize("workspace", WORKSPACES, ids=lambda path: path.name)
def test_workspace_is_formatted(workspace):
    check("cargo", "fmt", "--check", "--all", "--manifest-path", workspace / "Cargo.toml")


@pytest.mark.parametrize("workspace", WORKSPACES, ids=lambda path: path.name)
def test_workspace_clippy(workspace):
    check(
        "cargo",
        "clippy",
        "--quiet",
        "--locked",
        "--release",
        "--all-targets",
        "--manifest-path",
        workspace / "Cargo.toml",
        "--",
        "-D",
        "warnings",
    )


def test_modules_are_formatted():
    check("scripts/build-modules", "rustfmt")


@pytest.mark.parametrize("kernel", kernels.NAMES)
def test_modules_clippy(kernel):
    """For the debug kernel with the KUnit suites."""
    try:
        kernels.get(kernel)
    except kernels.NotBuilt as error:
        pytest.skip(str(error))
    check("scripts/build-modules", "--kernel", kernel, "clippy")


def unused(directory, crate: str, scratch) -> set[str]:
    """What the compiler says that this module does not use of rust/sys, by file and line. With the KUnit suites."""
    saved = (directory / f"rust/{crate}/.{crate}.o.cmd").read_text().splitlines()[0].partition(" := ")[2]
    # Without objtool, which follows for some kernels.
    saved = re.sub(r"--out-dir \S+|--emit=\S+", "", saved.partition(";")[0])
    command = f"{saved} --emit=metadata --out-dir {scratch} --error-format=json --force-warn dead_code"
    environment = os.environ | {"RUSTC_BOOTSTRAP": "1", "CCP_BINDINGS": str(directory / "rust/ccp_bindings.rs")}
    run = subprocess.run(["bash", "-c", command], cwd=directory, capture_output=True, text=True, env=environment)
    assert run.returncode == 0, run.stderr
    said = [json.loads(line) for line in run.stderr.splitlines() if line.startswith("{")]
    spans = [
        span
        for message in said
        if (message["code"] or {}).get("code") == "dead_code"
        for span in message["spans"]
        if span["is_primary"]
    ]
    places = {f"{os.path.normpath(span['file_name'])}:{span['line_start']}" for span in spans}
    return {place for place in places if "/rust/sys/" in place}


def test_every_part_of_sys_is_used(tmp_path):
    """Each module uses a part of rust/sys, so that neither may be warned of the rest: what neither uses goes."""
    try:
        directory = kernels.get("debug").ours
    except kernels.NotBuilt as error:
        pytest.skip(str(error))
    check("scripts/build-modules", "--kernel", "debug", "clippy")
    ccp, snp_host = (
        unused(directory.with_name(f"{directory.name}-clippy"), crate, tmp_path) for crate in ("ccp", "snp_host")
    )
    assert ccp and snp_host, "each leaves something to the other"
    assert not ccp & snp_host


def test_shell_scripts():
    check("shellcheck", "--external-sources", "--severity=warning", *SHELL, TOP / "scripts/lib.sh")
    check(
        "shellcheck",
        "--shell=sh",
        "--severity=warning",
        "--exclude=SC1091",
        TOP / "selftests/vm/init",
        *sorted(TOP.glob("selftests/vm/*.sh")),
    )


def test_planted_bugs_apply():
    """A mutant that does not apply any more shows nothing; scripts/mutants, which says so, takes an hour."""
    mutants = sorted((TOP / "selftests/mutants").glob("*.patch"))
    stale = [
        mutant.name
        for mutant in mutants
        if subprocess.run(
            ["patch", "-p1", "--dry-run", "--fuzz=0", "--quiet", "-i", mutant], cwd=TOP, capture_output=True
        ).returncode
    ]
    assert mutants and not stale, stale
    # And their heads can be read.
    check("scripts/mutants", "--list")


def test_explained_bugs_exist():
    """Bugs that are known to change nothing (selftests/mutate/unnoticed.toml) are still planted."""
    names = {bug.name for bug in planted.all_bugs()}
    assert set(planted.explained()) <= names


def test_prose_fits_100_columns():
    """Comments of Rust, and Markdown but for tables and what is shown as code."""
    files = subprocess.run(["git", "ls-files", "*.rs", "*.md"], cwd=TOP, check=True, stdout=subprocess.PIPE, text=True)
    long = []
    for name in files.stdout.split():
        for number, line in enumerate((TOP / name).read_text().splitlines(), 1):
            bare = line.lstrip()
            prose = bare.startswith("//") if name.endswith(".rs") else not line.startswith(("|", "    ", "<!--"))
            if prose and len(line) > 100:
                long.append(f"{name}:{number}")
    assert not long, long


def test_code_fits_120_columns():
    """Python, shell, C and the lists that they read."""
    files = subprocess.run(["git", "ls-files"], cwd=TOP, check=True, stdout=subprocess.PIPE, text=True).stdout.split()
    suffixes, directories = (".py", ".sh", ".c", ".h"), ("scripts/", "tools/", "selftests/programs/")
    # Patches have the lines of the kernel.
    code = [f for f in files if f.endswith(suffixes) or f.startswith(directories) and not f.endswith(".patch")]
    assert len(code) > 100
    lines = ((f, n, line) for f in code for n, line in enumerate((TOP / f).read_text().splitlines(), 1))
    assert not (long := [f"{f}:{n}" for f, n, line in lines if len(line) > 120]), long


def test_every_file_names_its_licence():
    files = subprocess.run(["git", "ls-files"], cwd=TOP, check=True, stdout=subprocess.PIPE, text=True).stdout.split()
    plain = (
        ".lock",
        ".md",
        ".toml",
        ".txt",
        ".gitignore",
        "COPYING",
        "scripts/packages",
        "scripts/apt-preferences",
        "scripts/in-root.d",
        "debian/changelog",
        "debian/copyright",
        "debian/source/format",
    )
    missing = [
        f
        for f in files
        if not (f.endswith(plain) or f.startswith("Documentation/ABI/"))
        and "SPDX-License-Identifier: GPL-2.0" not in (TOP / f).read_text()[:300]
    ]
    assert not missing


def test_differences_between_kernels():
    """What Kbuild looks for in a kernel is used, and nothing else is a condition in the modules' sources."""
    asked = set(re.findall(r"\(call ccp-if-has,(\w+),", (TOP / "Kbuild").read_text()))
    # cfg(x), cfg(not(x)), cfg_attr(x, …); configuration and what rustc itself sets are no difference between kernels.
    used = {
        name
        for file in (TOP / "rust").rglob("*.rs")
        for name in re.findall(r"\bcfg(?:_attr)?\((?:not\()?(\w+)", file.read_text())
    }
    known = {name for name in used if name.startswith("CONFIG_")} | {"test", "all", "any", "not"}
    assert asked and asked == used - known
