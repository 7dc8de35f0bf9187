# SPDX-License-Identifier: GPL-2.0
"""The driver's tables of commands and statuses, as selftests/wire prints them."""

import functools
import subprocess
from typing import NamedTuple

from vmlib import paths


class Tables(NamedTuple):
    own_commands: set[str]  # those that the driver issues itself, not for KVM
    with_lengths: set[str]  # those for which firmware reports the lengths of what it wrote
    statuses: dict[str, int]  # name -> code
    named: list[str]  # the failures that the driver treats in a way of their own


@functools.cache
def tables() -> Tables:
    manifest = paths.TOP / "selftests/wire/Cargo.toml"
    run = subprocess.run(
        ["cargo", "run", "--quiet", "--locked", "--release", "--manifest-path", manifest],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    out = Tables(set(), set(), {}, [])
    for kind, name, value, mark in (line.split() for line in run.stdout.splitlines()):
        if kind == "command":
            out.own_commands.update([name] if value == "driver" else [])
            out.with_lengths.update([name] if mark == "lengths" else [])
        else:
            out.statuses[name] = int(value, 16)
            out.named.extend([name] if mark == "named" and int(value, 16) else [])
    return out
