# SPDX-License-Identifier: GPL-2.0
"""scripts/snp-host: a command on an SNP host."""

import json
import re
import subprocess
import xml.etree.ElementTree as xml

import pytest
from conftest import paths

SNP_HOST = paths.TOP / "scripts/snp-host"


def snp_host(*words, limit: float = 400) -> subprocess.CompletedProcess:
    return subprocess.run(
        [str(word) for word in (SNP_HOST, *words)], capture_output=True, text=True, timeout=limit, check=False
    )


def test_a_command_by_virtme_ng_with_uefi_and_16_gib(tmp_path):
    """The in-tree driver initialises SNP on memory above 4 GiB. Neither virtme-ng nor OVMF knows where it is."""
    out, there = tmp_path / "out", "/opt/there"
    (tmp_path / "here").write_text("from outside\n")
    done = snp_host(
        "run", "--memory", "16G", "--cpus", 4, "--qemu", f"-bios {paths.OVMF}", "--out", out,
        "--file", f"{tmp_path / 'here'}:{there}", "--junit", tmp_path / "junit.xml", "--",
        "sh", "-c", f"cat {there}; snphost ok; grep MemTotal /proc/meminfo; ls /sys/firmware/efi; echo bad >&2; exit 3",
    )  # fmt: skip
    assert done.returncode == 3, (done.stderr, (out / "console.log").read_text()[-2000:])
    assert done.stdout.startswith("from outside\n") and "runtime" in done.stdout and done.stdout.endswith("bad\n")
    assert "FAIL" not in done.stdout and "- SNP initialized" in done.stdout, done.stdout
    assert int(re.search(r"MemTotal: +(\d+) kB", done.stdout)[1]) > 15 << 20
    result = json.loads((out / "result.json").read_text())
    trace = [json.loads(line) for line in (out / "trace.jsonl").read_text().splitlines()]
    assert result["status"] == 3 and result["snp_initialised"] is True
    assert result["psp_commands"] == sum("cmd" in entry for entry in trace) > 0
    assert [entry["status"] for entry in trace if entry.get("cmd") == "SNP_INIT_EX"] == [0]
    console = (out / "console.log").read_text()
    assert "SEV-SNP API:" in console and "snp-qemu:" not in console, "reports of the CPU model"
    assert "end of the summary" in (out / "cpu.log").read_text()
    failure = xml.parse(tmp_path / "junit.xml").find("testcase/failure")
    assert failure.get("message") == f"status 3, logs: {out}"


def test_a_machine_that_takes_too_long(tmp_path):
    done = snp_host("run", "--timeout", 3, "--out", tmp_path, "--", "true")
    assert done.returncode == 124 and "no end within 3 s" in done.stderr
    assert json.loads((tmp_path / "result.json").read_text())["snp_initialised"] is False
    ps = subprocess.run(["ps", "ax"], capture_output=True, text=True, check=True)
    assert str(tmp_path) not in ps.stdout


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["run"], "there is no command"),
        (["run", "--file", "/nothing:/x", "--", "true"], "--file /nothing:/x: there must be"),
        (["run", "--driver", "ccp-rs", "--kernel", "/k", "--", "true"], "is built for Debian's kernel"),
        ([], "required: action"),
    ],
)
def test_what_is_refused(words, why):
    done = snp_host(*words)
    assert done.returncode not in (0, 124) and why in done.stderr
