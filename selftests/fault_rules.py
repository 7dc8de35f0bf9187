# SPDX-License-Identifier: GPL-2.0
"""What is to come of each cell of the fault matrix.

A cell is like the run without a fault (`fault_matrix.healthy`), except for what the rules here say.
"""

import re
from collections import Counter

from fault_matrix import DEADLY, STATUSES, Cell
from vmlib import suite

# No step takes longer, in seconds, on a busy machine; how long an answer is waited for comes on top.
BOUND = 20

# The most pages that go with one command: its buffer, that of SNP_PAGE_RECLAIM, and two for the answer.
DYING_COSTS = 4
# Pages: the event log, 512 KiB on a host with SNP (EVTLOG_SIZE_MAX in the kernel's amd_iommu_types.h), the PPR log,
# 8 KiB on Milan, and the semaphore of completion waits.
IOMMU_PAGES = 128 + 2 + 1

# Which step of the launch fails with a command, and which call of /dev/sev (selftests/programs).
LAUNCH_STEPS = {
    "SNP_GCTX_CREATE": "start",
    "SNP_LAUNCH_START": "start",
    "SNP_ACTIVATE": "start",
    "SNP_LAUNCH_UPDATE": "update",
    "SNP_LAUNCH_FINISH": "finish",
}
# Where kvm-amd has an errno of its own.
KVM_ERRNO = {"SNP_GCTX_CREATE": {"refused": "ENOTTY", "died": "ENOTTY"}, "SNP_LAUNCH_UPDATE": {"died": "EIO"}}
CALLS = {
    "PLATFORM_STATUS": "platform-status", "SNP_PLATFORM_STATUS": "snp-platform-status", "GET_ID": "get-id2",
    "PDH_CERT_EXPORT": "pdh", "PEK_GEN": "pek-gen", "PDH_GEN": "pdh-gen", "PEK_CSR": "pek-csr",
    "PEK_CERT_IMPORT": "pek-import", "SNP_CONFIG": "snp-config",
    "SNP_COMMIT": "snp-commit", "SNP_VLEK_LOAD": "vlek", "SHUTDOWN": "factory-reset", "FACTORY_RESET": "factory-reset",
    # Issued for the first call that gives firmware a page to write to.
    "SNP_PAGE_RECLAIM": "platform-status",
}  # fmt: skip

NO_SEV = {"sev": "N", "sev_es": "N", "sev_snp": "N", "launch": "create-vm EINVAL 0"}
# What a caller finds in `error` if firmware has said nothing.
UNTOUCHED = "0xdeadbeef"


def is_gone_for_good(cell: Cell) -> bool:
    return cell.kind.name == "gone"


def changes(cell: Cell, healthy: dict[str, str]) -> dict[str, str]:
    """How what user space sees differs from `healthy`."""
    if cell.kind.name == "late":
        return {}
    if cell.kind.name == "garbage":
        return {f"ask {CALLS[cell.command]}": "EIO 0"}
    return died(cell, healthy) if cell.deadly else refused(cell, healthy)


def asks(healthy: dict[str, str]) -> list[str]:
    return [key for key in healthy if key.startswith("ask ")]


def refused(cell: Cell, healthy: dict[str, str]) -> dict[str, str]:
    status = f"EIO {cell.kind.status:#x}"
    if cell.phase == "probe":
        # The old firmware goes on.
        return (
            {} if cell.command == "DOWNLOAD_FIRMWARE" else NO_SEV | dict.fromkeys(asks(healthy), f"ENODEV {UNTOUCHED}")
        )
    if cell.phase == "init":
        # SNP does not depend on legacy SEV, which waits for its first guest then.
        if cell.command in ("SNP_PAGE_RECLAIM", "INIT", "INIT_EX", "DF_FLUSH"):
            return {}
        # Asked by kvm-amd, which then leaves out SNP alone.
        return {"sev_snp": "N", "launch": NO_SEV["launch"]} if cell.command == "SNP_PLATFORM_STATUS" else NO_SEV
    if cell.phase == "launch" and cell.command in LAUNCH_STEPS:
        return {
            "launch": (
                f"{LAUNCH_STEPS[cell.command]} {KVM_ERRNO.get(cell.command, {}).get('refused', 'EIO')} "
                f"{cell.kind.status:#x}"
            )
        }
    if cell.phase == "ask":
        return {f"ask {CALLS[cell.command]}": "EFAULT 0" if cell.command == "SNP_PAGE_RECLAIM" else status}
    return {}


def died(cell: Cell, healthy: dict[str, str]) -> dict[str, str]:
    later = f"EBUSY {UNTOUCHED}"
    if cell.phase == "probe" and cell.command != "DOWNLOAD_FIRMWARE":
        return NO_SEV | dict.fromkeys(asks(healthy), f"ENODEV {UNTOUCHED}")
    out = dict.fromkeys(asks(healthy), later)
    if cell.phase == "init" and cell.command == "SNP_PAGE_RECLAIM":
        # The command before it has been answered, so kvm-amd has found nothing amiss.
        return out | {"launch": "init2 EBUSY 0"}
    if cell.phase == "init" and cell.command == "SNP_PLATFORM_STATUS":
        return out | {"sev_snp": "N", "launch": NO_SEV["launch"]}
    if cell.phase in ("probe", "init"):
        return out | NO_SEV
    if cell.phase == "launch":
        if step := LAUNCH_STEPS.get(cell.command):
            out["launch"] = f"{step} {KVM_ERRNO.get(cell.command, {}).get('died', 'ETIMEDOUT')} 0"
        return out
    if cell.phase == "ask":
        call = f"ask {CALLS[cell.command]}"
        before = asks(healthy)[: asks(healthy).index(call)]
        # A command that was answered, but whose buffer stays with firmware, is another error.
        return (
            out
            | {call: "EFAULT 0" if cell.command == "SNP_PAGE_RECLAIM" else "ETIMEDOUT 0"}
            | {key: healthy[key] for key in before}
        )
    return {}


def again(cell: Cell, healthy: dict[str, str]) -> dict[str, str]:
    """How loading everything once more, now without a fault, differs from `healthy`."""
    if is_gone_for_good(cell):
        return {"sev": "N", "sev_es": "N", "sev_snp": "N", "file": "No such file or directory"}
    # Firmware that was left initialised is taken over, stopped, and started anew.
    return {}


def spoken(cell: Cell) -> str | None:
    """The one message of the driver that names the command and what happened; None if a caller gets
    the status instead (KVM and /dev/sev hand it to user space)."""
    command = rf"\b{cell.command}\b"
    if cell.deadly:
        return rf"ccp .*{DEADLY[cell.kind.name]} (during )?{command}.*: the mailbox is dead, SEV and SNP commands fail"
    if cell.kind.name == "garbage":
        return rf"ccp .*{command} failed: firmware says that it put 0xffffffff bytes"
    if cell.kind.status is None:
        return None
    if cell.command == "SNP_PAGE_RECLAIM":
        return rf"ccp: \d+ page\(s\) .* are lost .*{command}: .*\({cell.kind.status:#x}\)"
    damaged = cell.kind.status == STATUSES["SECURE_DATA_INVALID"]
    if cell.phase == "init" and cell.command in ("INIT", "INIT_EX") and damaged:
        return rf"ccp .*{command}: .*trying once more"
    own = {"probe": True, "init": cell.command != "SNP_PLATFORM_STATUS", "unload": cell.command != "SNP_DF_FLUSH"}
    if not own.get(cell.phase, False):
        return None
    if cell.command == "SNP_SHUTDOWN_EX" and cell.kind.status == STATUSES["DFFLUSH_REQUIRED"]:
        # Done, and tried again.
        return None
    return rf"ccp .*{command} failed: .*\({cell.kind.status:#x}\)"


def view(outcome, prefix: str = "", again: bool = False) -> dict[str, str]:
    """What user space saw: results of modprobe and rmmod, parameters of kvm_amd, the last step of the
    launch, calls of /dev/sev."""
    out = {}
    for line in outcome.values("step"):
        name, status, _, *words = line.split()
        if name.startswith(("again", "reunload")) == again and not name.endswith(("launch", "ask")):
            out[name] = status
        if again and name == "again-ask" and words:
            out["file"] = " ".join(words).rpartition(": ")[2]
    for line in outcome.values("again" if again else "loaded"):
        what, value = line.split()
        out[what] = value
    for line in outcome.values("launch-launch") if not again else ():
        step, errno, error = line.split()
        out["launch"] = f"{step} {errno} {error.removeprefix('error=')}"
    for line in outcome.values("again-ask-ioctl" if again else "ask-ioctl"):
        call, errno, error, *_ = line.split()
        out.setdefault(f"ask {call}", f"{errno} {error.removeprefix('error=')}")
    return out


def lost_pages(kernel: list[str]) -> int:
    """What the driver, and KVM of its own, say that they have lost to firmware."""
    ours = sum(int(found[1]) for line in kernel if (found := re.match(r"ccp: (\d+) page\(s\) from", line)))
    theirs = sum(
        int(found[2], 16) - int(found[1], 16)
        for line in kernel
        if (found := re.search(r"Leaking PFN range (0x\w+)-(0x\w+)", line))
    )
    return ours + theirs


def kept_by_iommu(cell: Cell, trace: list[dict]) -> int:
    """Pages that the IOMMU writes to: firmware has them while SNP is up, and they are taken back when
    the driver sees it end."""
    first = trace[: next((n for n, entry in enumerate(trace) if entry.get("text") == "phase again"), len(trace))]
    done = [entry["cmd"] for entry in first if entry.get("status") == 0 and "cmd" in entry]
    ended = "SNP_SHUTDOWN_EX" in done and not cell.deadly
    return IOMMU_PAGES if any(cmd.startswith("SNP_INIT") for cmd in done) and not ended else 0


def complaints(cell: Cell, outcome, healthy) -> list[str]:
    """Everything about a cell that is not as it should be."""
    if outcome.failure:
        return [outcome.failure.splitlines()[0]]
    out = []
    if not any(cell.fault in entry.get("fault", ()) for entry in outcome.trace):
        out.append("the fault never struck")

    for name, seen, wanted in (
        ("", view(outcome), view(healthy) | changes(cell, view(healthy))),
        (
            "then, without the fault, ",
            view(outcome, again=True),
            view(healthy, again=True) | again(cell, view(healthy, again=True)),
        ),
    ):
        seen_at_all = {key: value for key, value in wanted.items() if key in seen or value != view(healthy).get(key)}
        out += [
            f"{name}{key}: {seen.get(key)}, not {value}" for key, value in seen_at_all.items() if seen.get(key) != value
        ]

    for line in outcome.values("step"):
        step, _, milliseconds, *_ = line.split()
        if int(milliseconds) > 1000 * (BOUND + cell.kind.seconds):
            out.append(f"{step} took {milliseconds} ms")

    messages = suite.sections(outcome.kernel, r"phase (\w+)", str)
    second = messages.pop("again", [])
    first = [line for lines in messages.values() for line in lines]
    pattern = spoken(cell)
    said = [
        line
        for line in first
        if re.search(pattern or rf"ccp .*\b{cell.command}\b.*(failed|did not answer|all ones)", line)
    ]
    if cell.command == "DOWNLOAD_FIRMWARE" and pattern is None:
        said = [line for line in said if "BAD_SIGNATURE" not in line]
    if len(said) != (1 if pattern else 0):
        out.append(f"{len(said)} messages, not {1 if pattern else 0}: {said}")
    repeated = [
        line
        for line, count in Counter(line for line in first if line.startswith("ccp ") and "failed" in line).items()
        if count > 1 and "firmware: failed to load" not in line
    ]
    out += [f"said more than once: {line}" for line in repeated]

    assigned = int((outcome.values("assigned") or ["-1"])[0])
    known = int((healthy.values("assigned") or ["0"])[0])
    excused = lost_pages(first) + kept_by_iommu(cell, outcome.trace)
    if assigned > known + excused:
        out.append(f"{assigned} pages are assigned in the RMP, but only {excused} are said to be lost or the IOMMU's")
    # What is not issued, because the mailbox is dead, costs nothing.
    affordable = DYING_COSTS if cell.phase == "ask" else 0
    if cell.deadly and lost_pages(messages["ask"]) > affordable:
        out.append(f"calls of /dev/sev lost {lost_pages(messages['ask'])} pages to a dead mailbox")
    if again(cell, {}) and not any(
        re.search(r"ccp .*(SEV is not available|SEV stays off|registers read all ones|not issued)", line)
        for line in second
    ):
        out.append("the next load is refused without a reason")
    return out
