# SPDX-License-Identifier: GPL-2.0
"""Linux guests that attest: what they are made of, and their reports, verified outside.

Inside it is virtee's snpguest that asks and verifies, outside OpenSSL's commands, over the bytes as
they came. What must be in a report comes from sev-snp-measure and from here, never from the model.
"""

import base64
import dataclasses
import subprocess
import tempfile
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import utils

from . import cpio, initramfs, paths
from .machine import Result

# The last one shows what QEMU was given with -fw_cfg.
MODULES = [
    "fs/configfs/configfs",
    "drivers/virt/coco/guest/tsm_report",
    "drivers/virt/coco/sev-guest/sev-guest",
    "drivers/firmware/qemu_fw_cfg",
]
# The certificates are in the initrd, so they are measured: whoever knows the digest knows whom the
# guest trusts. The nonce is another one each time and comes from outside (boot_attesting in
# selftests/vm/lib.sh). At VMPL 0 runs the kernel of a guest without an SVSM.
INIT = """#!/busybox sh
/busybox --install -s /bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev
dmesg -n 1
for module in {modules}; do insmod /$module.ko || echo "$module does not load"; done
echo "guest user space: $(uname -r)"
attest() {{
	cp /sys/firmware/qemu_fw_cfg/by_name/opt/ccp-rs/nonce/raw /nonce &&
	snpguest report /report /nonce --vmpl 0 &&
	snpguest verify certs /certificates &&
	snpguest verify attestation /certificates /report --report-data "0x$(hexdump -v -e '1/1 "%02x"' /nonce)"
}}
if attest >/said 2>&1; then echo "inside: verified"; else echo "inside: refused, $(tail -n 3 /said | tr '\\n' ' ')"; fi
report() {{ echo "report $(base64 -w 0 "$1")"; }}
[ ! -e /report ] || report /report
{more}
poweroff -f
"""


def certificates(directory: Path, profile: str = "milan", names: str = "model") -> Path:
    """Those of the chip that pspd models, as AMD's key distribution service has them."""
    subprocess.run([paths.TARGET / "kds", directory, "--part", profile, "--names", names], check=True)
    return directory


def modules() -> dict[str, Path | bytes]:
    """Those that a guest needs for it: name in an initramfs -> what is in it."""
    return {
        f"{Path(module).name}.ko": cpio.unpacked(paths.KERNEL_MODULES / "kernel" / f"{module}.ko.xz")
        for module in MODULES
    }


def files(stage: Path, chain: Path, nonce: bytes, more: str = "") -> dict[str, Path]:
    """Name below /guest in the machine -> file, in the place of those of launch.guest_files. `more` is what else
    the guest does, in shell; "report FILE" prints a report."""
    contents = modules()
    contents |= {f"certificates/{name}.pem": chain / f"vcek/{name}.pem" for name in ("ark", "ask", "vcek")}
    contents |= {library.lstrip("/"): Path(library) for library in initramfs.libraries(str(paths.SNPGUEST))}
    contents["bin/snpguest"] = paths.SNPGUEST
    init = INIT.format(modules=" ".join(Path(module).name for module in MODULES), more=more)
    (stage / "nonce").write_bytes(nonce)
    return {"initrd": initramfs.guest(stage / "attest-initrd", init, contents), "nonce": stage / "nonce"}


def reports(result: Result) -> list[bytes]:
    """What guests have printed, in that order; also left in the run directory, as report-N."""
    found = [base64.b64decode(words[2]) for line in result.lines if (words := line.split())[:1] == ["@report"]]
    for n, report in enumerate(found):
        (result.run / f"report-{n}").write_bytes(report)
    return found


@dataclasses.dataclass(frozen=True)
class Verdict:
    measurement: bool
    chain: bool  # from the VCEK of the report's chip and TCB version up to the ARK
    signature: bool  # is that VCEK's
    nonce: bool

    def __bool__(self) -> bool:
        return self.measurement and self.chain and self.signature and self.nonce

    def __str__(self) -> str:
        found = [f"{name} {'ok' if getattr(self, name) else 'WRONG'}" for name in ("chain", "signature", "nonce")]
        return ", ".join(
            [
                f"report {'verified' if self else 'REFUSED'} outside: measurement "
                f"{'EQUAL' if self.measurement else 'DIFFERENT'}",
                *found,
            ]
        )


# Which byte of a TCB version is which part's, and how many bytes a chip's identifier has in addresses of the service.
_OLD = ({"bl": 0, "tee": 1, "snp": 6, "ucode": 7}, 64)
_NEW = ({"fmc": 0, "bl": 1, "tee": 2, "snp": 3, "ucode": 7}, 8)
LAYOUTS = {"milan": _OLD, "genoa": _OLD, "turin": _NEW}


def verify(report: bytes, chain: Path, measurement: str, nonce: bytes, profile: str = "milan") -> Verdict:
    """`chain` is of certificates(), `measurement` as sev-snp-measure prints it. The layout is that of
    virtee's sev and go-sev-guest (snp-abi.md 3.9)."""
    if len(report) != 0x4A0:
        return Verdict(False, False, False, False)
    # The name that one would ask AMD's service for.
    layout, chip = LAYOUTS[profile]
    query = "&".join(f"{part}SPL={report[0x180 + byte]:02}" for part, byte in layout.items())
    vcek = chain / f"vcek/v1/{profile.title()}/{report[0x1A0 : 0x1A0 + chip].hex()}?{query}"
    return Verdict(
        report[0x90:0xC0].hex() == measurement,
        _chain_holds(chain, vcek),
        _signed(report, vcek),
        report[0x50:0x90] == nonce,
    )


def _openssl(*arguments: str | Path) -> subprocess.CompletedProcess:
    return subprocess.run(["openssl", *arguments], capture_output=True)


def _chain_holds(chain: Path, vcek: Path) -> bool:
    return (
        _openssl("verify", "-CAfile", chain / "vcek/ark.pem", "-untrusted", chain / "vcek/ask.pem", vcek).returncode
        == 0
    )


def _signed(report: bytes, vcek: Path) -> bool:
    r, s = (int.from_bytes(report[at : at + 72], "little") for at in (0x2A0, 0x2E8))
    with tempfile.TemporaryDirectory() as scratch:
        key, body, signature = (Path(scratch) / name for name in ("key", "body", "signature"))
        key.write_bytes(_openssl("x509", "-in", vcek, "-pubkey", "-noout").stdout)
        body.write_bytes(report[:0x2A0])
        signature.write_bytes(utils.encode_dss_signature(r, s))
        return _openssl("dgst", "-sha384", "-verify", key, "-signature", signature, body).returncode == 0
