# SPDX-License-Identifier: GPL-2.0
"""A guest asks the PSP for attestation reports, and others verify them inside and outside.

What must be in a report comes from sev-snp-measure and from here. virtee's snpguest verifies inside, OpenSSL outside.
"""

import base64
import dataclasses
import hashlib
import struct
import subprocess
from pathlib import Path

import pytest
from conftest import boot, launch, paths, values
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, utils
from vmlib import attest

# The first is given to snpguest, the others to configfs-tsm.
NONCES = [nonce.encode().ljust(64) for nonce in ("a nonce", "another nonce", "another nonce")]
VMPLS = [0, 0, 3]
POLICY = 0x30000
HOST_DATA = b"what the host says of the guest."
# What the guest does besides: configfs-tsm has a report's nonce in inblob, its VMPL in privlevel.
TSM = f"""
mount -t configfs configfs /sys/kernel/config
mkdir /sys/kernel/config/tsm/report/it && cd /sys/kernel/config/tsm/report/it
printf %s '{NONCES[1].decode()}' >inblob
report outblob
echo {VMPLS[2]} >privlevel
report outblob
"""


class Owner:
    """The guest's owner, who signs what shall be launched (layouts: struct snp_id_block and
    snp_id_auth_block of AMD's sev-tool)."""

    def __init__(self):
        self.id_key, self.author_key = ec.generate_private_key(ec.SECP384R1()), ec.generate_private_key(ec.SECP384R1())

    @staticmethod
    def public(key) -> bytes:
        numbers = key.public_key().public_numbers()
        return (struct.pack("<I", 2) + numbers.x.to_bytes(72, "little") + numbers.y.to_bytes(72, "little")).ljust(
            0x404, b"\0"
        )

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
    return (
        ",".join(f"{name}={base64.b64encode(value).decode()}" for name, value in given.items())
        + ",author-key-enabled=on"
    )


@dataclasses.dataclass
class Attested:
    result: object
    owner: Owner
    digest: str
    reports: list[bytes]
    certificates: Path


@pytest.fixture(scope="module", params=["intree", "ours"])
def attested(request, tmp_path_factory) -> Attested:
    """Three launches: the right one, one with a changed ID block, one with another command line."""
    if not request.config.getoption("--long"):
        pytest.skip("launches three guests, and boots Linux in one; 'make test-long' does it")
    stage, owner = tmp_path_factory.mktemp("guest"), Owner()
    certificates = attest.certificates(stage / "certificates")
    files = launch.guest_files(stage) | attest.files(stage, certificates, NONCES[0], TSM)
    digest = launch.expected(launch.KERNEL_HASHES, files)
    block = owner.block(bytes.fromhex(digest))
    authentication = owner.authentication(block)
    changed = block[:0x54] + struct.pack("<I", 8) + block[0x58:]
    cases = {
        "right": (block, launch.APPEND),
        "changed-block": (changed, launch.APPEND),
        "command-line": (block, f"{launch.APPEND} debug"),
    }
    for name, (signed, append) in cases.items():
        for kind, text in [("snp", properties(signed, authentication)), ("append", append)]:
            files[f"{name}.{kind}"] = stage / f"{name}.{kind}"
            files[f"{name}.{kind}"].write_text(text)
    result = boot(
        "attest.sh",
        *cases,
        driver=request.param,
        guest=True,
        files={f"guest/{name}": file for name, file in files.items()},
        limit=600,
    )
    assert result.status == 0, result.lines
    assert {line.split()[0] for line in values(result, "report")} == {"right"}, result.lines
    return Attested(result, owner, digest, attest.reports(result), certificates)


def test_reports_say_what_was_launched(attested):
    owner = attested.owner
    assert len(attested.reports) == len(NONCES), attested.result.lines
    for report, vmpl in zip(attested.reports, VMPLS, strict=True):
        assert struct.unpack_from("<I", report, 0x30)[0] == vmpl
        assert report[0xC0:0xE0] == HOST_DATA
        assert struct.unpack_from("<IQ", report, 4) == (7, POLICY), "SVN and policy"
        assert report[0x10:0x30] == b"family of guests" + b"one of the image"
        assert report[0xE0:0x110] == hashlib.sha384(owner.public(owner.id_key)).digest()
        assert report[0x110:0x140] == hashlib.sha384(owner.public(owner.author_key)).digest()


def snpguest(certificates: Path, report: Path, *options: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [paths.SNPGUEST, "verify", "attestation", certificates / "vcek", report, *options],
        capture_output=True,
        text=True,
    )


def test_two_verifiers_accept_them_and_refuse_what_was_tampered_with(attested, tmp_path):
    assert values(attested.result, "inside") == ["right verified"]
    for n, (report, nonce) in enumerate(zip(attested.reports, NONCES, strict=True)):
        verdict = attest.verify(report, attested.certificates, attested.digest, nonce)
        assert verdict, verdict
        verified = snpguest(attested.certificates, attested.result.run / f"report-{n}")
        assert verified.returncode == 0, verified.stderr
        tampered = report[:0x50] + bytes([report[0x50] ^ 1]) + report[0x51:]
        (tmp_path / "tampered").write_bytes(tampered)
        assert attest.verify(
            tampered, attested.certificates, attested.digest, tampered[0x50:0x90]
        ) == dataclasses.replace(verdict, signature=False)
        assert (
            "VEK did NOT sign the Attestation Report!" in snpguest(attested.certificates, tmp_path / "tampered").stderr
        )


def test_each_of_them_refuses_what_its_owner_does_not_expect(attested, tmp_path):
    report, path = attested.reports[0], attested.result.run / "report-0"
    right = attest.verify(report, attested.certificates, attested.digest, NONCES[0])
    subprocess.run([paths.TARGET / "kds", tmp_path, "--seed", "5"], check=True)
    assert right == attest.Verdict(measurement=True, chain=True, signature=True, nonce=True)
    assert attest.verify(report, attested.certificates, attested.digest, NONCES[1]) == dataclasses.replace(
        right, nonce=False
    )
    assert attest.verify(report, attested.certificates, "00" * 48, NONCES[0]) == dataclasses.replace(
        right, measurement=False
    )
    assert attest.verify(report, tmp_path, attested.digest, NONCES[0]) == dataclasses.replace(
        right, chain=False, signature=False
    ), "another chip"

    nonce, other, digest = f"0x{NONCES[0].hex()}", f"0x{NONCES[1].hex()}", f"0x{attested.digest}"
    assert snpguest(attested.certificates, path, "--report-data", nonce, "--measurement", digest).returncode == 0
    assert "Report Data did not match" in snpguest(attested.certificates, path, "--report-data", other).stderr
    assert (
        "Measurement did not match" in snpguest(attested.certificates, path, "--measurement", f"0x{48 * '00'}").stderr
    )
    assert "VEK did NOT sign the Attestation Report!" in snpguest(tmp_path, path).stderr


def test_the_firmware_was_asked_and_everything_came_back(attested):
    requests = [command for command in attested.result.commands() if command["cmd"] == "SNP_GUEST_REQUEST"]
    assert [(c["status_name"], c["message"], c["answer"]) for c in requests] == [
        ("SUCCESS", "REPORT", "SUCCESS")
    ] * len(attested.reports)
    assert [c["sequence"] for c in requests] == [2 * n + 1 for n in range(len(requests))]
    assert attested.result.rmp["assigned"] == 0, "pages of a guest that is gone"


def test_what_the_owner_did_not_sign_is_not_launched(attested):
    finished = [
        command["status_name"] for command in attested.result.commands() if command["cmd"] == "SNP_LAUNCH_FINISH"
    ]
    assert finished == ["SUCCESS", "BAD_SIGNATURE", "BAD_MEASUREMENT"]
    booted = {words[0]: words[1] for words in map(str.split, values(attested.result, "booted"))}
    assert booted["right"] != "never" and booted["changed-block"] == booted["command-line"] == "never"
