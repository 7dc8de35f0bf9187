# SPDX-License-Identifier: GPL-2.0
"""/dev/sev: every good and bad call gives the result that the in-tree driver gives, in every state of the platform."""

from functools import cache

import differences
import ioctls

# Calls that must succeed, whoever says so.
GOOD = {
    "fresh": ["platform-status", "get-id2", "get-id", "pdh", "pek-gen", "pdh-gen", "pek-csr", "snp-commit"],
    "up": ["platform-status", "snp-platform-status", "get-id2", "pdh", "pek-gen", "pdh-gen", "pek-csr", "snp-config"],
    "snp-guest": ["platform-status", "snp-platform-status", "snp-commit", "get-id2", "pdh"],
    "stopped": ["platform-status", "snp-platform-status", "pek-gen", "factory-reset"],
}


@cache
def answers(driver: str) -> dict[str, str]:
    return ioctls.answers(driver)


def test_same_as_in_tree():
    intree = answers("intree")
    ours = {name: answer for name, answer in answers("ours").items() if not name.startswith("up-large/")}
    assert intree.keys() == ours.keys() and len(ours) > 1000
    different = {name: (intree[name], ours[name]) for name in intree if intree[name] != ours[name]}
    listed = differences.listed("ioctl")
    unexplained = {name: pair for name, pair in different.items() if differences.reason(listed, name) is None}
    assert not unexplained, "\n".join(f"{name}: in-tree {a}, ours {b}" for name, (a, b) in unexplained.items())
    unused = [pattern for pattern in listed if not any(differences.matches(pattern, name) for name in different)]
    assert not unused, f"listed but not seen: {unused}"


def test_good_calls_are_done():
    for phase, names in GOOD.items():
        for name in names:
            assert answers("ours")[f"{phase}/{name}"].startswith("0 error=0"), f"{phase}/{name}"


def test_large_buffers():
    """Of ours alone: with SNP up the in-tree driver breaks the kernel by them."""
    large = {name: ioctls.short(answer) for name, answer in answers("ours").items() if name.startswith("up-large/")}
    assert len(large) == 12
    for name, answer in large.items():
        call = name.split("/")[1].partition(":")[0]
        above = name.endswith("-above-limit")
        refused = {"pek-import": "EINVAL", "pdh": "EFAULT", "pek-csr": "EFAULT"}.get(call, "done")
        taken = "EIO 0x4" if call == "pek-import" else "done"
        assert answer == (refused if above else taken), name


def test_the_page_is_true():
    page = ioctls.Page(answers("intree"), answers("ours")).text()
    assert ioctls.PAGE.read_text() == page, "to write it anew: scripts/in-root python3 selftests/ioctls.py"


def test_every_state_is_in_the_page():
    """No phase of the scenario is compared and then left out."""
    phases = {name.split("/")[0] for name in answers("ours")}
    alone = {"up-large", "flush", "reset", "reset-launch", "reset-used", "dying"}
    assert phases == {*ioctls.STATES, *ioctls.OCCASIONS, *alone}
