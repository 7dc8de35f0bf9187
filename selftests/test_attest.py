# SPDX-License-Identifier: GPL-2.0
"""A guest asks the PSP for attestation reports, and others verify them outside.

What must be in a report comes from sev-snp-measure and from here. Two verify it: virtee's sev, and OpenSSL.
"""

import base64
import dataclasses
import hashlib
import lzma
import os
import shutil
import struct
import subprocess
from pathlib import Path

import pytest
from conftest import boot, launch, paths, splats, values
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, utils
from vmlib import initramfs

NONCES = ["a nonce", "another nonce"]
POLICY = 0x30000
HOST_DATA = b"what the host says of the guest."
APPEND = "console=ttyS0"
# Process 1 of the guest. configfs-tsm has a report's nonce in inblob, its VMPL in privlevel.
INIT = f"""#!/busybox sh
/busybox mount -t proc proc /proc
/busybox mount -t sysfs sysfs /sys
/busybox dmesg -n 1
for module in configfs tsm_report sev-guest; do /busybox insmod /$module.ko || echo "$module does not load"; done
/busybox mount -t configfs configfs /sys/kernel/config
/busybox mkdir /sys/kernel/config/tsm/report/it && cd /sys/kernel/config/tsm/report/it
for nonce in {" ".join(f"'{nonce}'" for nonce in NONCES)}; do
	/busybox printf %-64s "$nonce" >inblob
	echo "report $(/busybox base64 -w 0 outblob)"
done
echo 3 >privlevel
echo "report $(/busybox base64 -w 0 outblob)"
echo "end of reports"
/busybox poweroff -f
"""
MODULES = ["fs/configfs/configfs", "drivers/virt/coco/guest/tsm_report", "drivers/virt/coco/sev-guest/sev-guest"]


def guest_files(stage: Path) -> dict[str, Path]:
    files = launch.guest_files(stage)
    root = stage / "attest-root"
    root.mkdir()
    shutil.copy("/usr/bin/busybox", root / "busybox")
    for directory in ("proc", "sys"):
        (root / directory).mkdir()
    for module in MODULES:
        (root / f"{Path(module).name}.ko").write_bytes(lzma.decompress((paths.KERNEL_MODULES / "kernel" / f"{module}.ko.xz").read_bytes()))
    (root / "init").write_text(INIT)
    (root / "init").chmod(0o755)
    for file in root.iterdir():
        os.utime(file, (0, 0))
    initramfs.pack(root, stage / "attest-initrd")
    return files | {"attest-initrd": stage / "attest-initrd"}


def measured(files: dict[str, Path], append: str) -> bytes:
    command = [
        paths.SNP_MEASURE, "--mode", "snp", "--vcpus", 1, "--vcpu-type", "EPYC-v4", "--guest-features", "0x1", "--ovmf", files["OVMF.amdsev.fd"],
        "--kernel", files["vmlinuz"], "--initrd", files["attest-initrd"], "--append", append, "--output-format", "hex",
    ]  # fmt: skip
    return bytes.fromhex(subprocess.run([str(c) for c in command], check=True, stdout=subprocess.PIPE, text=True).stdout)


class Owner:
    """The guest's owner, who signs what shall be launched (layouts: struct snp_id_block and snp_id_auth_block of AMD's sev-tool)."""

    def __init__(self):
        self.id_key, self.author_key = ec.generate_private_key(ec.SECP384R1()), ec.generate_private_key(ec.SECP384R1())

    @staticmethod
    def public(key) -> bytes:
        numbers = key.public_key().public_numbers()
        return (struct.pack("<I", 2) + numbers.x.to_bytes(72, "little") + numbers.y.to_bytes(72, "little")).ljust(0x404, b"\0")

    @staticmethod
    def sign(key, message: bytes) -> bytes:
        r, s = utils.decode_dss_signature(key.sign(message, ec.ECDSA(hashes.SHA384())))
        return (r.to_bytes(72, "little") + s.to_bytes(72, "little")).ljust(0x200, b"\0")

    def block(self, digest: bytes) -> bytes:
        return digest + b"family of guests" + b"one of the image" + struct.pack("<IIQ", 1, 7, POLICY)

    def authentication(self, block: bytes) -> bytes:
        public = self.public(self.id_key)
        signed = struct.pack("<II", 1, 1).ljust(0x40, b"\0") + self.sign(self.id_key, block)
        certified = (public.ljust(0x440, b"\0") + self.sign(self.author_key, public)).ljust(0x640, b"\0")
        return (signed + certified + self.public(self.author_key)).ljust(0x1000, b"\0")


def properties(block: bytes, authentication: bytes) -> str:
    """Of QEMU's sev-snp-guest."""
    given = {"host-data": HOST_DATA, "id-block": block, "id-auth": authentication}
    return ",".join(f"{name}={base64.b64encode(value).decode()}" for name, value in given.items()) + ",author-key-enabled=on"


@dataclasses.dataclass
class Attested:
    result: object
    owner: Owner
    digest: bytes
    reports: list[bytes]


@pytest.fixture(scope="module", params=["intree", "ours"])
def attested(request, tmp_path_factory) -> Attested:
    """Three launches: the right one, one with a changed ID block, one with another command line."""
    if not request.config.getoption("--long"):
        pytest.skip("launches three guests, and boots Linux in one; 'make test-long' does it")
    stage, owner = tmp_path_factory.mktemp("guest"), Owner()
    files = guest_files(stage)
    digest = measured(files, APPEND)
    block = owner.block(digest)
    authentication = owner.authentication(block)
    changed = block[:0x54] + struct.pack("<I", 8) + block[0x58:]
    cases = {"right": (block, APPEND), "changed-block": (changed, APPEND), "command-line": (block, f"{APPEND} debug")}
    for name, (signed, append) in cases.items():
        for kind, text in [("snp", properties(signed, authentication)), ("append", append)]:
            files[f"{name}.{kind}"] = stage / f"{name}.{kind}"
            files[f"{name}.{kind}"].write_text(text)
    result = boot("attest.sh", *cases, driver=request.param, guest=True, files={f"guest/{name}": file for name, file in files.items()}, limit=600)
    assert result.status == 0, result.lines
    words = [line.split() for line in values(result, "report")]
    assert {name for name, *_ in words} == {"right"}, result.lines
    return Attested(result, owner, digest, [base64.b64decode(report) for _, report in words])


@pytest.fixture(scope="session")
def certificates(tmp_path_factory) -> Path:
    directory = tmp_path_factory.mktemp("kds")
    subprocess.run([paths.TARGET / "kds", directory], check=True)
    return directory


def sev_accepts(certificates: Path, report: Path) -> subprocess.CompletedProcess:
    manifest = paths.TOP / "selftests/platform/Cargo.toml"
    command = ["cargo", "run", "--quiet", "--locked", "--release", "--manifest-path", manifest, "-p", "kds", "--example", "verify", certificates, report]
    return subprocess.run([str(c) for c in command], capture_output=True, text=True)


def openssl_accepts(certificates: Path, report: bytes, scratch: Path) -> bool:
    """The chain, and the signature over the raw bytes."""

    def openssl(*arguments) -> subprocess.CompletedProcess:
        return subprocess.run(["openssl", *map(str, arguments)], capture_output=True, cwd=scratch)

    vcek = certificates / "vcek/vcek.pem"
    chain = openssl("verify", "-CAfile", certificates / "vcek/ark.pem", "-untrusted", certificates / "vcek/ask.pem", vcek)
    assert chain.returncode == 0, chain.stderr
    (scratch / "key").write_bytes(openssl("x509", "-in", vcek, "-pubkey", "-noout").stdout)
    (scratch / "body").write_bytes(report[:0x2A0])
    r, s = (int.from_bytes(report[at : at + 72], "little") for at in (0x2A0, 0x2E8))
    (scratch / "signature").write_bytes(utils.encode_dss_signature(r, s))
    return openssl("dgst", "-sha384", "-verify", "key", "-signature", "signature", "body").returncode == 0


def test_reports_say_what_was_launched(attested):
    owner = attested.owner
    assert len(attested.reports) == len(NONCES) + 1, attested.result.lines
    for report, nonce, vmpl in zip(attested.reports, [*NONCES, NONCES[-1]], [0, 0, 3], strict=True):
        assert len(report) == 0x4A0
        assert struct.unpack_from("<I", report, 0x30)[0] == vmpl
        assert report[0x50:0x90] == nonce.encode().ljust(64), "the nonce"
        assert report[0x90:0xC0] == attested.digest, "the measurement that sev-snp-measure expects"
        assert report[0xC0:0xE0] == HOST_DATA
        assert struct.unpack_from("<IQ", report, 4) == (7, POLICY), "SVN and policy"
        assert report[0x10:0x30] == b"family of guests" + b"one of the image"
        assert report[0xE0:0x110] == hashlib.sha384(owner.public(owner.id_key)).digest()
        assert report[0x110:0x140] == hashlib.sha384(owner.public(owner.author_key)).digest()


def test_two_verifiers_accept_them_and_refuse_what_was_tampered_with(attested, certificates, tmp_path):
    for n, report in enumerate(attested.reports):
        path = attested.result.run / f"report-{n}"
        path.write_bytes(report)
        verified = sev_accepts(certificates, path)
        assert verified.returncode == 0, verified.stderr
        assert openssl_accepts(certificates, report, tmp_path)
        tampered = bytearray(report)
        tampered[0x50] ^= 1
        path = tmp_path / "tampered"
        path.write_bytes(tampered)
        verified = sev_accepts(certificates, path)
        assert "VEK does not sign" in verified.stderr, verified.stderr
        assert not openssl_accepts(certificates, bytes(tampered), tmp_path)


def test_the_firmware_was_asked_and_everything_came_back(attested):
    requests = [command for command in attested.result.commands() if command["cmd"] == "SNP_GUEST_REQUEST"]
    assert [(c["status_name"], c["message"], c["answer"]) for c in requests] == [("SUCCESS", "REPORT", "SUCCESS")] * len(attested.reports)
    assert [c["sequence"] for c in requests] == [2 * n + 1 for n in range(len(requests))]
    assert attested.result.rmp["assigned"] == 0, "pages of a guest that is gone"
    assert not splats(attested.result.console)


def test_what_the_owner_did_not_sign_is_not_launched(attested):
    finished = [command["status_name"] for command in attested.result.commands() if command["cmd"] == "SNP_LAUNCH_FINISH"]
    assert finished == ["SUCCESS", "BAD_SIGNATURE", "BAD_MEASUREMENT"]
    booted = {words[0]: words[1] for words in map(str.split, values(attested.result, "booted"))}
    assert booted["right"] != "never" and booted["changed-block"] == booted["command-line"] == "never"
