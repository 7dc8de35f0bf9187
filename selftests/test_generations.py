# SPDX-License-Identifier: GPL-2.0
"""Milan, Genoa and Turin, as snp-qemu's --snp-profile has them: what the host's tools, a guest's report and its
verifiers see of each.

What differs is AMD's SEV-SNP ABI (AMD 56860), as virtee's sev and Linux have it: the numbers here are written down from
them, not from the models.
"""

import dataclasses
import functools
import json
import os
import subprocess
from pathlib import Path

import pytest
from conftest import boot, launch, paths, values
from vmlib import attest, debian, host_check

NONCE = b"a generation's".ljust(64)
SMT = 1  # in PLATFORM_INFO


@dataclasses.dataclass(frozen=True)
class Generation:
    cpu: tuple[int, int, int]
    version: int  # of reports
    tcb: dict[str, int]  # component: byte
    chip: int  # bytes of the chip's identifier
    api: bytes  # build, minor, major
    device: str  # of the PSP

    def components(self, report: bytes, at: int) -> dict[str, int]:
        return {name: report[at + byte] for name, byte in self.tcb.items()}


GENERATIONS = {
    "milan": Generation((25, 1, 1), 3, *attest.LAYOUTS["milan"], bytes((21, 55, 1)), "1486"),
    "genoa": Generation((25, 17, 0), 3, *attest.LAYOUTS["genoa"], bytes((24, 55, 1)), "14ca"),
    "turin": Generation((26, 0, 0), 5, *attest.LAYOUTS["turin"], bytes((4, 58, 1)), "156e"),
}
CASES = [(profile, driver) for profile in GENERATIONS for driver in ("ours", "intree")]
# The generation that differs most, with the driver that is tested here.
ALWAYS = ("turin", "ours")


@functools.cache
def run(stage, profile: str, driver: str):
    """A host with SMT, and a guest that attests."""
    chain = attest.certificates(stage / f"{profile}-{driver}", profile)
    inside = launch.guest_files(stage) | attest.files(stage, chain, NONCE)
    files = {f"guest/{name}": file for name, file in inside.items()}
    files |= host_check.libraries(paths.SNPHOST) | {"usr/bin/snphost": paths.SNPHOST}
    result = boot(
        "generation.sh", profile, profile=profile, driver=driver, guest=True, threads=2, files=files, limit=400
    )
    assert result.status == 0, result.lines
    return result, chain, launch.expected(launch.KERNEL_HASHES, inside)


@pytest.fixture(scope="module")
def stage(tmp_path_factory):
    return tmp_path_factory.mktemp("generations")


@pytest.fixture(params=CASES, ids="-".join)
def case(request, stage, long):
    if not long and request.param != ALWAYS:
        pytest.skip("only in test-long")
    profile, driver = request.param
    return profile, GENERATIONS[profile], *run(stage, profile, driver)


def test_what_the_host_sees(case):
    """SNP is up, the CPU is this one, and snphost asks the key service for what it has."""
    profile, generation, result, chain, _ = case
    assert values(result, "cpu") == [" ".join(map(str, generation.cpu))]
    # Linux reads RMP_CFG where CPUID says that there can be segments. Our driver compares all CPUs' before that, and
    # takes #GP for an answer.
    executed = {line.split()[1] for line in (result.run / "cpu.log").read_text().splitlines() if "count " in line}
    expected = {"rmpread.success", "rdmsr.RMP_CFG"} if profile == "turin" else set()
    if "snp_host: " in result.console:
        expected.add("rdmsr.RMP_CFG")
    assert executed & {"rmpread.success", "rdmsr.RMP_CFG"} == expected
    assert values(result, "wrong") == [], values(result, "host")
    assert f"1022:{generation.device}" in result.console.lower()
    said = {}
    for name, line in (line.split(" ", 1) for line in values(result, "host") if " " in line):
        said.setdefault(name, []).append(line)
    (url,) = [line for line in said["vcek-url"] if "kdsintf" in line]
    path, _, query = url.split("kdsintf.amd.com/")[1].partition("?")
    service, _, chip = path.rpartition("/")
    assert (chain / f"{service}/{chip.lower()}?{query}").exists(), (url, list(chain.rglob("*SPL*")))
    assert said["identifier"] == [chip] and len(chip) == 2 * generation.chip


def test_reports(case):
    """Field by field."""
    profile, generation, result, chain, _ = case
    (report,) = attest.reports(result)
    assert int.from_bytes(report[:4], "little") == generation.version
    assert tuple(report[0x188:0x18B]) == generation.cpu and not any(report[0x18B:0x1A0])
    chip = report[0x1A0:0x1E0]
    assert any(chip[generation.chip // 2 : generation.chip]) and not any(chip[generation.chip :])
    for at in (0x38, 0x180, 0x1E0, 0x1F0):
        tcb = generation.components(report, at)
        assert len({*tcb.values()}) == len(tcb), tcb
        others = set(range(8)) - {*generation.tcb.values()}
        assert not any(report[at + byte] for byte in others)
    assert report[0x1E8:0x1EC] == report[0x1EC:0x1F0] == generation.api + b"\0"
    assert report[0x40] & SMT and not report[0x40] & 0xC6
    # Mitigations come with version 5. Nobody has verified any.
    assert not any(report[0x1F8:0x2A0])


def test_verifiers(case, tmp_path):
    """snpguest inside and outside, OpenSSL outside. snpguest takes the generation from the report."""
    profile, generation, result, chain, digest = case
    assert values(result, "inside") == [f"{profile} verified"]
    (report,) = attest.reports(result)
    verdict = attest.verify(report, chain, digest, NONCE, profile)
    assert verdict, verdict
    (tmp_path / "report").write_bytes(report)
    shown = subprocess.run([paths.SNPGUEST, "display", "report", tmp_path / "report"], capture_output=True, text=True)
    assert shown.returncode == 0, shown.stderr
    tcb = generation.components(report, 0x180)
    reported = shown.stdout.split("Reported TCB:")[1].split("\n\n")[1]
    names = {"ucode": "Microcode", "snp": "SNP", "tee": "TEE", "bl": "Boot Loader", "fmc": "FMC"}
    for name, text in names.items():
        number = next(line.split(":")[1].strip() for line in reported.splitlines() if text in line)
        assert number == (str(tcb[name]) if name in tcb else "None"), reported


@pytest.fixture
def service(case):
    """Where the key service answers, with AMD's names."""
    profile, *_ = case
    command = [paths.TARGET / "kds", "--serve", "0", "--part", profile, "--names", "amd"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as running:
        yield running.stdout.readline().strip()
        running.kill()


# Go's client is Debian's, Python's PyPI's. Neither knows Turin yet.
GO = ["golang-go", "golang-github-google-go-sev-guest-dev"]
PYTHON = "secretvm-verify==0.12.0"
CLIENTS = paths.TOP / "selftests/clients"


@pytest.mark.parametrize("client", ["go", "python"])
def test_clients_of_the_key_service(case, client, service, long, tmp_path):
    """They fetch chain, VCEK and revocations, in their own way of asking, and refuse a report that was changed."""
    profile, _, result, *_ = case
    if not long or profile == "turin":
        pytest.skip("not Turin, and in make test-long: installs clients")
    command = go(tmp_path) if client == "go" else python(tmp_path)
    (report,) = attest.reports(result)
    for name, content in ("right", report), ("changed", report[:0x50] + b"?" + report[0x51:]):
        (tmp_path / name).write_bytes(content)
    verified, refused = (
        subprocess.run(
            [*command, service, profile.title(), tmp_path / name], capture_output=True, text=True, timeout=120,
            check=False, env=os.environ | {"HOME": str(tmp_path)},
        )
        for name in ("right", "changed")
    )  # fmt: skip
    assert verified.returncode == 0, verified.stderr + verified.stdout
    assert client != "go" or f"/vcek/v1/{profile.title()}/crl" in verified.stdout
    assert refused.returncode == 1 and "signature" in (refused.stderr + refused.stdout).lower(), refused


def go(scratch) -> list:
    debian.install(*GO)
    # AMD's certificates, which the library has in it, Debian has left out of the package.
    place = Path("/usr/share/gocode/src/github.com/google/go-sev-guest/verify/trust")
    ours = {}
    for part in GENERATIONS:
        attest.certificates(scratch / part, part, names="amd")
        for key, name in ("vcek", "_vcek" if part == "turin" else ""), ("vlek", "_vlek"):
            chain = scratch / f"{part}/{key}/v1/{part.title()}/cert_chain"
            ours[f"{place}/ask_ark_{part}{name}.pem"] = str(chain)
    (scratch / "overlay").write_text(json.dumps({"Replace": ours}))
    environment = {"GO111MODULE": "off", "GOPATH": "/usr/share/gocode", "GOCACHE": str(scratch / "cache")}
    build = ["go", "build", "-overlay", scratch / "overlay", "-o", scratch / "verify", CLIENTS / "verify.go"]
    subprocess.run(build, check=True, env=os.environ | environment)
    return [scratch / "verify"]


def python(scratch) -> list:
    library = scratch / "library"
    subprocess.run(["python3", "-m", "pip", "install", "-q", "--no-deps", "-t", library, PYTHON], check=True)
    return ["python3", CLIENTS / "verify.py", library]


def test_smt_is_the_machines(case):
    """A guest that forbids it is not launched. (That one without SMT is: the next test.)"""
    _, _, result, *_ = case
    assert values(result, "launch")[-1].startswith("start ") and "error=0x7" in values(result, "launch")[-1]


def test_a_machine_without_smt():
    files = host_check.libraries(paths.SNPHOST) | {"usr/bin/snphost": paths.SNPHOST}
    result = boot("generation.sh", files=files, limit=240)
    assert result.status == 0 and values(result, "launch")[-1] == "finish 0 error=0", result.lines


def test_two_names_must_be_the_same():
    words = [paths.SNP_QEMU, "-m", "1G", "-cpu", "EPYC-Genoa", "--snp-profile", "turin"]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 1 and "-cpu names a Genoa, and --snp-profile says turin" in done.stderr
