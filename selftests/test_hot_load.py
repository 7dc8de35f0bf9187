# SPDX-License-Identifier: GPL-2.0
"""Firmware is replaced while it runs (SNP_DOWNLOAD_FIRMWARE_EX): images and what firmware answers to them, states of
SNP and SEV, guests, both kvm-amd."""

import re
import subprocess
from pathlib import Path

from conftest import boot, launch, paths, values
from vmlib import attest, hooked

BIOS = (1, 55, 21)
# Images by name: options of sbin.
IMAGES = {
    "newer": ["--api", "1.56.3", "--svn", "21"],
    "same": [],
    "older": ["--api", "1.55.20"],
    "rollback": ["--api", "1.56.3", "--svn", "1"],
    "stranger": ["--api", "1.56.3", "--spoil", "stranger"],
    "noise": ["--spoil", "noise"],
    "other": ["--api", "1.56.3", "--model", "17"],
    "shutdown": ["--api", "1.56.4", "--svn", "21", "--live", "shutdown"],
    "broken": ["--api", "1.56.5", "--svn", "21", "--live", "broken"],
}
VERSIONS = {
    "newer": (1, 56, 3),
    "same": BIOS,
    "shutdown": (1, 56, 4),
    "broken": (1, 56, 5),
}
EX = "SNP_DOWNLOAD_FIRMWARE_EX"
FAULT = f"newer+{EX}:status="
UPDATED = "SEV firmware updated from .* in place"
# What is loaded -> what the node says, and the one message.
REFUSED = {
    "older": (
        "firmware-invalid",
        r"BAD_VERSION \(0x22\): the image is older than what was committed",
    ),
    "rollback": (
        "firmware-invalid",
        r"INVALID_CONFIG \(0x3\): the image is older than what was committed",
    ),
    "stranger": (
        "firmware-invalid",
        r"BAD_SIGNATURE \(0xa\): AMD has not signed the image",
    ),
    "noise": (
        "firmware-invalid",
        r"INVALID_PARAM \(0x16\): the file has not the form of an image",
    ),
    "other": (
        "firmware-invalid",
        r"UNSUPPORTED \(0x15\): the image is for another CPU",
    ),
    "long": (
        "invalid-file-size",
        r"INVALID_LEN \(0x4\): the image has the wrong length",
    ),
    f"{FAULT}0x21": ("firmware-invalid", r"BAD_SVN \(0x21\): the image is older"),
    f"{FAULT}0x1": (
        "device-busy",
        r"INVALID_PLATFORM_STATE \(0x1\): the platform is not in a state",
    ),
    f"{FAULT}0x24": ("read-write-error", r"UPDATE_FAILED \(0x24\): the update failed"),
    f"{FAULT}0x11": (
        "hw-error",
        r"INVALID_COMMAND \(0x11\): firmware cannot be replaced while it runs; put the image",
    ),
    f"{FAULT}0x13": ("hw-error", r"HWERROR_PLATFORM \(0x13\): "),
    f"{FAULT}0x14": ("hw-error", r"HWERROR_UNSAFE \(0x14\): .*restart the machine"),
    f"{FAULT}0x9000": ("hw-error", r"undocumented status \(0x9000\): "),
}
REFUSED = {
    image: (error, f"{EX} failed: {text}.*; the old firmware goes on") for image, (error, text) in REFUSED.items()
}
SHUTDOWN_FIRST = (
    "device-busy",
    rf"{EX} failed: SHUTDOWN_REQUIRED \(0x23\): the image cannot take over SNP as it is",
)
DOES_NOT_WORK = (
    "read-write-error",
    rf"{EX} failed: RESTORE_REQUIRED \(0x25\): the new firmware does not work.*of 1.55.21 now",
)
HUGE = ("invalid-file-size", "firmware image not loaded: it has 5242880 bytes")
NO_HOOKS = (
    "device-busy",
    r"firmware image not loaded: there are 1 SNP guest\(s\), and this kvm_amd does not",
)
SEV_GUESTS = (
    "device-busy",
    r"firmware image not loaded: there are 1 SEV or SEV-ES guest\(s\)",
)
TAKEN = ("", UPDATED)
ALL = [*REFUSED, "huge", "shutdown", "newer", "same", "broken", "same"]


def outcome(step: str, has_hooks: bool) -> tuple[str, str]:
    state, guest, image = step.split("/")
    if guest == "snp" and not has_hooks:
        return NO_HOOKS
    if image == "huge":
        return HUGE
    if guest == "sev":
        return SEV_GUESTS
    if image in REFUSED:
        return REFUSED[image]
    if image == "shutdown" and state not in ("down", "sev"):
        return SHUTDOWN_FIRST
    return DOES_NOT_WORK if image == "broken" else TAKEN


def load(*steps: str, directory: Path, has_hooks: bool, **config):
    """Load images in one machine."""
    for name, options in IMAGES.items():
        subprocess.run([paths.TARGET / "sbin", directory / name, *options], check=True)
    files = {f"images/{name}": directory / name for name in IMAGES} | (hooked.files() if has_hooks else {})
    result = boot("hot-load.sh", *steps, files=files, limit=240, **config)
    assert result.status == 0, result.lines
    examine(result, steps, has_hooks)
    return result


def examine(result, steps: tuple[str, ...], has_hooks: bool) -> None:
    """Compare what came of each step."""
    said = iter(values(result, "load"))
    statuses = iter(values(result, "status"))
    lines = [re.sub(r"^\[ *\d+\.\d+\] ", "", line) for line in result.console.splitlines()]
    kernel = cut(lines, lambda line: line)
    trace = cut(result.trace, lambda entry: entry.get("text", ""))
    version, before = BIOS, None
    for n, step in enumerate(steps):
        state, guest, image = step.split("/")
        if (state, guest) != before:
            version = BIOS if before is None or before[0] != state else version
            before = state, guest
        status = next(statuses).split()[3:]
        if image == "unload" or image.endswith("silent"):
            continue
        error, message = outcome(step, has_hooks)
        assert next(said) == f"{step} {error and f'transferring:{error}'}", step
        of_images = [line for line in kernel[n] if re.search(f"firmware image not loaded|{EX}|{UPDATED}", line)]
        assert len(of_images) == 1 and re.search(message, of_images[0]), (
            step,
            of_images,
        )
        # Firmware is not asked where the driver knows the answer.
        asked = [entry for entry in trace[n] if entry.get("cmd") == EX]
        assert len(asked) == (message not in (NO_HOOKS[1], SEV_GUESTS[1], HUGE[1])), step
        # Never committed.
        assert all(bytes.fromhex(entry["buf"])[20:24] == bytes(4) for entry in asked if "fault" not in entry), step
        if image == "broken" and error:
            assert status[:2] == ["EIO", "error=0x25"], status
            continue
        version = VERSIONS[image.partition("+")[0]] if not error else version
        answer = bytes.fromhex(status[2])
        assert (answer[0], answer[1], answer[7]) == version, (step, status)
        # Legacy SEV is as it was: WORKING with a guest.
        known = {"down": 0, "snp": 0, "up": 1, "sev": 1}[state] + (guest == "sev")
        assert answer[2] == known or is_off(steps[: n + 1], state), (step, answer[2])
        statuses_of_guests = [e["status"] for e in trace[n] if e.get("cmd") == "SNP_GUEST_STATUS"]
        assert statuses_of_guests == [0] * (guest == "snp" and not error), step


def is_off(steps: tuple[str, ...], state: str) -> bool:
    """Whether SEV was not started again: after an image that does not work, or because firmware refused it. The next
    SEV guest starts it."""
    return any(step.startswith(f"{state}/") and ("/broken" in step or "+INIT" in step) for step in steps)


def cut(entries: list, text) -> list[list]:
    """The entries of each step, in their order."""
    parts: list[list] = []
    for entry in entries:
        if text(entry).startswith("step "):
            parts.append([])
        elif parts:
            parts[-1].append(entry)
    return parts


def steps(to: str, *images: str) -> list[str]:
    return [f"{to}/{image}" for image in images]


def test_with_debians_kvm_amd(tmp_path):
    result = load(
        *steps("down/none", *ALL),
        *steps("sev/none", "newer", "same"),
        *steps("sev/sev", "newer"),
        *steps("snp/none", "newer", "same"),
        *steps("up/none", *ALL),
        *steps("up/snp", "newer"),
        *steps("up/sev", "newer"),
        *steps("up/none", "unload"),
        directory=tmp_path, has_hooks=False,
    )  # fmt: skip
    assert values(result, "unloaded") == ["0 "]
    # What was being loaded when the modules were unloaded was loaded.
    status = bytes.fromhex(values(result, "status")[-1].split()[5])
    assert (status[0], status[1], status[7]) == VERSIONS["newer"]
    assert result.rmp["assigned"] == 0


def test_with_hooks_guests_go_on(tmp_path):
    result = load(
        *steps("snp/none", "newer"),
        *steps("snp/snp", "same", *ALL),
        *steps("up/snp", "newer", "same", "newer"),
        *steps("up/sev", "same"),
        *steps("up/none", "same", "newer+INIT:status=0x17"),
        *steps("down/none", f"newer+{EX}:silent"),
        directory=tmp_path, has_hooks=True, expects=("are lost until",),
    )  # fmt: skip
    assert values(result, "load")[-1].endswith(" transferring:timeout")
    assert "firmware did not answer SNP_DOWNLOAD_FIRMWARE_EX within 2 s" in result.console
    # The guests of the second state end, too.
    ended = [entry["status"] for entry in result.commands() if entry["cmd"] == "SNP_DECOMMISSION"]
    assert ended == [0, 0] and result.rmp["assigned"] == 0
    assert result.console.count("legacy SEV was stopped for the firmware image, and stays off until") == 1


NONCE = b"a nonce".ljust(64)
# Two more reports, with the same nonce: each is printed when this TCB version is another than in the first.
CURRENT_TCB, REPORTED_TCB, COMMITTED_TCB, LAUNCH_TCB = 0x38, 0x180, 0x1E0, 0x1F0
ATTEST = f"""
mount -t configfs configfs /sys/kernel/config
mkdir /sys/kernel/config/tsm/report/it && cd /sys/kernel/config/tsm/report/it
tcb() {{ hexdump -v -s "$1" -n 8 -e '1/1 "%02x"' "$2"; }}
report_with_another() {{
	for n in $(seq 90); do
		cat /nonce >inblob
		cat outblob >/now
		[ "$(tcb "$1" /now)" = "$(tcb "$1" /report)" ] || break
		sleep 1
	done
	report /now
}}
report_with_another {CURRENT_TCB}
report_with_another {COMMITTED_TCB}
"""


def test_reports_of_a_guest_that_runs(tmp_path):
    """The same guest attests before the image, after it, and after SNP_COMMIT; OpenSSL verifies each report with the
    VCEK of the TCB that it reports."""
    certificates = attest.certificates(tmp_path / "certificates")
    files = launch.guest_files(tmp_path) | attest.files(tmp_path, certificates, NONCE, ATTEST)
    digest = launch.expected(launch.KERNEL_HASHES, files)
    subprocess.run([paths.TARGET / "sbin", tmp_path / "newer", *IMAGES["newer"]], check=True)
    files = {f"guest/{name}": file for name, file in files.items()} | {"images/newer": tmp_path / "newer"}
    result = boot("hot-load.sh", "attesting", "newer", guest=True, files=files | hooked.files(), limit=240)
    assert result.status == 0 and values(result, "load") == ["newer "], result.lines
    reports = attest.reports(result)
    old = reports[0][CURRENT_TCB:][:8]
    # SNP's part.
    new = old[:6] + bytes([21]) + old[7:]
    assert old != new
    at = (CURRENT_TCB, COMMITTED_TCB, REPORTED_TCB, LAUNCH_TCB)
    assert [[report[n:][:8] for n in at] for report in reports] == [
        [old] * 4,
        [new, old, old, old],
        [new, new, new, old],
    ]
    # Build, minor, major: current, and committed.
    assert [(*report[0x1E8:0x1EB], *report[0x1EC:0x1EF]) for report in reports] == [
        (21, 55, 1, 21, 55, 1), (3, 56, 1, 21, 55, 1), (3, 56, 1, 3, 56, 1)
    ]  # fmt: skip
    tcb = f"{int.from_bytes(new, 'little'):#x}"
    subprocess.run([paths.TARGET / "kds", tmp_path / "new", "--tcb", tcb], check=True)
    for report, chain, other in zip(
        reports,
        (certificates, certificates, tmp_path / "new"),
        (tmp_path / "new", tmp_path / "new", certificates),
        strict=True,
    ):
        assert attest.verify(report, chain, digest, NONCE) and not attest.verify(report, other, digest, NONCE)
    # One may come before KVM has asked about the guest: it is refused (INVALID_GUEST_STATE), the driver asks, and
    # issues it once more.
    requests = [entry["status"] for entry in result.commands() if entry["cmd"] == "SNP_GUEST_REQUEST"]
    assert requests.count(0) >= 3 and sorted(requests)[requests.count(0) :] in ([], [2]), requests
    assert requests[-1] == 0
    assert "firmware has told the status of 1 SNP guest(s), and refused 0" in result.console
    assert result.rmp["assigned"] == 0
