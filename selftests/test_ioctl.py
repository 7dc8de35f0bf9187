# SPDX-License-Identifier: GPL-2.0
"""/dev/sev: every good and bad call gives the result that the in-tree driver gives."""

from functools import cache

import differences
from conftest import boot


# What a page is called that firmware does not give back.
LOST = {"ours": "are lost until", "intree": "Leaking PFN range"}


@cache
def calls(driver: str, case: str = "calls") -> dict[str, list[str]]:
    """Phase and name of the call -> its lines."""
    result = boot(
        "ioctl.sh",
        case,
        driver=driver,
        expects=(LOST[driver],) * (case == "states"),
        allows=("^RMP: ",) * (case == "states"),
    )
    assert result.status == 0, result.lines
    out, phase = {}, None
    for line in result.lines:
        if line.startswith("@phase "):
            phase = line.split()[1]
        elif line.startswith("@ioctl "):
            _, name, rest = (line + " ").split(" ", 2)
            out.setdefault(f"{phase}/{name}", []).append(rest.strip())
        elif line.startswith("@launch "):
            out.setdefault(f"{phase}/launch", []).append(line)
    return out


def test_same_as_in_tree():
    intree, ours = ({**calls(driver), **calls(driver, "states")} for driver in ("intree", "ours"))
    assert intree.keys() == ours.keys() and len(ours) > 200
    different = {name: (intree[name], ours[name]) for name in intree if intree[name] != ours[name]}
    listed = differences.listed("ioctl")
    unexplained = {name: pair for name, pair in different.items() if differences.reason(listed, name) is None}
    assert not unexplained, "\n".join(f"{name}: in-tree {a}, ours {b}" for name, (a, b) in unexplained.items())
    unused = [pattern for pattern in listed if not any(differences.matches(pattern, name) for name in different)]
    assert not unused, f"listed but not seen: {unused}"


def test_status_works():
    for phase in ("before", "after"):
        for name in ("platform-status", "snp-platform-status", "get-id2", "pdh"):
            assert calls("ours")[f"{phase}/{name}"][0].startswith("0 "), name
