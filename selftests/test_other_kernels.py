# SPDX-License-Identifier: GPL-2.0
"""Building for another kernel than the one that set-up chose: where things go, and what is said of one that differs."""

import os
import subprocess

import pytest
from conftest import paths

OTHER = "7.9.1+deb13-amd64"
CHOSEN = (paths.CACHE / "kernel-release").read_text().strip()


@pytest.mark.parametrize("asked, release, out", [
    ("", CHOSEN, paths.CACHE),
    (CHOSEN, CHOSEN, paths.CACHE),
    (OTHER, OTHER, paths.CACHE / f"for-{OTHER}"),
])  # fmt: skip
def test_where_things_are(asked, release, out):
    """The shell scripts and the Python ones agree."""
    environment = os.environ | {"CCP_KERNEL": asked}
    shell = f'. "{paths.TOP}/scripts/lib.sh"; . "{paths.TOP}/scripts/kernel-version"; '
    shell += 'echo "$KERNEL_RELEASE" "$KERNEL_TREE/build" "$KERNEL_OUT/modules"'
    python = "from vmlib.paths import *; print(RELEASE, KERNEL_BUILD, OUR_MODULES)"
    said = [
        subprocess.run(
            command, cwd=paths.TOP / "scripts", env=environment, check=True, capture_output=True, text=True
        ).stdout.strip()
        for command in (["bash", "-c", shell], ["python3", "-B", "-c", python])
    ]
    assert said == [f"{release} {paths.CACHE}/linux-{release}/build {out}/modules"] * 2


def test_source_package_of_a_release():
    shell = f'. "{paths.TOP}/scripts/lib.sh"; . "{paths.TOP}/scripts/kernel-version"; kernel_source {OTHER}'
    run = subprocess.run(["bash", "-c", shell], check=True, capture_output=True, text=True)
    assert run.stdout.strip() == "linux-source-7.9"


def test_what_has_changed_is_named(tmp_path):
    """Of what the compilers and check-modules say: each error once, with its place, and nothing else."""
    (tmp_path / "lib.rs").write_text("use core::gone::Thing;\npub fn f() -> u32 { 7u8 }\n")
    (tmp_path / "shim.c").write_text("int f(void) { return gone_function(); }\n")
    commands = [
        ["rustc", "--edition=2021", "--crate-type=lib", "lib.rs"],
        ["gcc-14", "-c", "-Wall", "shim.c"],
        ["echo", "check-modules: ccp.ko: imports rmp_gone, which neither the kernel nor our other module exports"],
        ["echo", "check-modules: snp_host.ko fits 7.9.1 (115 imports; ways to panic: none)"],
        ["rustc", "--edition=2021", "--crate-type=lib", "lib.rs"],
    ]
    log = "".join(
        subprocess.run(
            command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=os.environ
        ).stdout
        for command in commands
    )
    (tmp_path / "log").write_text(log)
    run = subprocess.run(
        [paths.TOP / "scripts/try-kernel", "--explain", tmp_path / "log"], check=True, capture_output=True, text=True
    )
    assert sorted(run.stdout.splitlines()) == sorted([
        "check-modules: ccp.ko: imports rmp_gone, which neither the kernel nor our other module exports",
        "error[E0308]: mismatched types (lib.rs:2:21)",
        "error[E0432]: unresolved import `core::gone` (lib.rs:1:11)",
        *[line for line in log.splitlines() if "shim.c" in line and ": error: " in line],
    ]), run.stdout  # fmt: skip
    assert "gone_function" in run.stdout
