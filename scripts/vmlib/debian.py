# SPDX-License-Identifier: GPL-2.0
"""Root directories and archives made of Debian's packages, for what boots and runs beside the set-up's own."""

import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from . import paths


class DebianError(Exception):
    """It cannot be made; says why."""


def run(*command, log: Path | None = None, **options) -> str:
    """Its output. If it fails the end of what it has said is in the exception, and the whole in `log`."""
    done = subprocess.run(
        [str(word) for word in command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **options
    )
    if log:
        log.parent.mkdir(exist_ok=True)
        log.write_text(done.stdout)
    if done.returncode:
        tail = "\n".join(done.stdout.splitlines()[-12:])
        raise DebianError(f"{command[0]} failed{f'; the whole log is {log}' if log else ''}:\n{tail}")
    return done.stdout


def tools(packages: Mapping[str, str]) -> None:
    """Programs (name -> package) that are wanted now: seldom, so the set-up does without them."""
    missing = [package for tool, package in packages.items() if not shutil.which(tool)]
    if missing:
        install(*missing)


def install(*packages: str) -> None:
    """What is installed already stays as it is."""
    apt("install", "-y", "--no-install-recommends", "--no-upgrade", *packages)


def apt(*words: str, **options) -> None:
    """apt-get, once more with new lists if that fails: the mirror may no longer have what the old ones name."""
    command = ["apt-get", "-o", "APT::Sandbox::User=root", *words]
    options |= {"log": paths.CACHE / "logs/tools.log", "env": os.environ | {"DEBIAN_FRONTEND": "noninteractive"}}
    try:
        run(*command, **options)
    except DebianError:
        run("apt-get", "update")
        run(*command, **options)


def bootstrap(
    target: Path, variant: str, packages: Sequence[str], options: Sequence[str], environment: Mapping[str, str]
) -> None:
    """mmdebstrap, with the mirrors of this root directory but for the suites beside trixie."""
    tools({"mmdebstrap": "mmdebstrap"})
    sources = [line for line in Path("/etc/apt/sources.list").read_text().splitlines() if " trixie" in line]
    apt = [line for line in run("apt-config", "dump").splitlines() if line.startswith("Acquire::http")]
    preferences = paths.TOP / "scripts/apt-preferences"
    run(
        "mmdebstrap", "--mode=root", f"--variant={variant}", *(f"--aptopt={line}" for line in apt),
        f"--setup-hook=install -D -m 644 {preferences} $1/etc/apt/preferences.d/ccp-rs", *options,
        f"--include={','.join(packages)}", "trixie", target, "-",
        input="\n".join(sources) + "\n", env=environment, log=paths.CACHE / f"logs/{target.name}.log",
    )  # fmt: skip
