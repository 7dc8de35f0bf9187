# SPDX-License-Identifier: GPL-2.0
"""The PSP sees the same commands, in the same order and with the same arguments, from both drivers."""

import difflib

import differences
from conftest import first_launch

RAM = 2 << 30  # of the machine in first_launch()


def arguments(buffer: str) -> str:
    """The command buffer without physical addresses, which differ from boot to boot: each aligned
    64-bit word that can be one is replaced."""
    data = bytes.fromhex(buffer)
    words = [data[i : i + 8] for i in range(0, len(data), 8)]
    return " ".join("address" if len(w) == 8 and 4096 <= int.from_bytes(w, "little") < RAM else w.hex() for w in words)


def summary(entry: dict) -> str:
    facts = [f"{key}={entry[key]}" for key in ("policy", "asid", "page_type", "gpa", "status") if key in entry]
    return " ".join([entry["cmd"], *facts, arguments(entry["buf"])])


def test_same_commands_as_in_tree():
    intree = [summary(entry) for entry in first_launch("intree")[0].commands()]
    ours = [summary(entry) for entry in first_launch("ours")[0].commands()]
    assert len(intree) > 3000, "the in-tree run is too short to be the whole launch"
    changes = [
        line
        for line in difflib.unified_diff(intree, ours, "in-tree", "ours", n=0, lineterm="")
        if line[:3] not in ("---", "+++") and line[:2] != "@@"
    ]
    listed = differences.listed("trace")
    unexplained = [line for line in changes if differences.reason(listed, line) is None]
    assert not unexplained, "\n".join(unexplained[:40])
    unused = [pattern for pattern in listed if not any(differences.matches(pattern, line) for line in changes)]
    assert not unused, f"listed but not seen: {unused}"


def test_mailbox_accesses_not_more_than_in_tree():
    """Reads over vfio-user and over PCIe cost the most; per command ours may not need more of them."""

    def accesses(driver: str) -> float:
        commands = first_launch(driver)[0].commands()
        return sum(c["mmio_reads"] + c["mmio_writes"] for c in commands) / len(commands)

    assert accesses("ours") <= accesses("intree")
