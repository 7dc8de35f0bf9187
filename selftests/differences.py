# SPDX-License-Identifier: GPL-2.0
"""What our driver does differently from the in-tree one on purpose: differences.toml, with reasons."""

import fnmatch
import tomllib
from pathlib import Path


def listed(kind: str) -> dict[str, str]:
    """Pattern -> reason."""
    with (Path(__file__).parent / "differences.toml").open("rb") as file:
        return tomllib.load(file).get(kind, {})


def matches(pattern: str, name: str) -> bool:
    return fnmatch.fnmatchcase(name, pattern)


def reason(patterns: dict[str, str], name: str) -> str | None:
    return next((why for pattern, why in patterns.items() if matches(pattern, name)), None)
