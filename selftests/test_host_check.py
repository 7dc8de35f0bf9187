# SPDX-License-Identifier: GPL-2.0
"""tools/host-check says what is wrong with a host, and that nothing is wrong with one that is healthy.

`make test` boots three machines, `make test-long` one for each row of host_check.toml's boots.
"""

import base64
import io
import re
import tarfile

import host_check as table
import pytest
from conftest import boot, values
from vmlib import host_check

SAMPLE = ("healthy",)


def look(*steps: str, **machine) -> dict[str, host_check.Look]:
    result = boot("host-check.sh", *steps, files=host_check.files(), limit=180, **machine)
    assert result.status == 0 and not [line for line in result.lines if line.startswith("@failed")], result.lines
    return host_check.looks(result)


def test_a_healthy_host(driver):
    found = look("+msr", "look,before", "+kvm_amd", "look,after", driver=driver)
    # What nobody has loaded yet.
    assert set(found["before"].of("no")) == {"psp", "kvm"} and set(found["before"].of("unknown")) == {"firmware"}
    after = found["after"]
    assert after.status == 0 and not after.of("no") and not after.of("unknown"), after
    assert after.snphost[0] == 0
    assert len(after.findings) >= 30


def test_there_are_many():
    assert len(table.WRONG) >= 30 and {wrong.boot for wrong in table.WRONG} == set(table.BOOTS)


def test_the_page_has_them_all():
    page = table.PAGE.read_text()
    assert page.startswith(f"{table.HEAD}\n") and list(table.rows(page)) == [wrong.title for wrong in table.WRONG]


@pytest.mark.parametrize("name", table.BOOTS)
def test_it_is_named(name, long):
    """By a line that a healthy host does not have, and which the page has."""
    if not long and name not in SAMPLE:
        pytest.skip("make test-long")
    looks, silent, page, stale = table.found(name), [], table.rows(table.PAGE.read_text()), []
    for wrong in [wrong for wrong in table.WRONG if wrong.boot == name]:
        found = looks[wrong.title]
        if table.row(wrong, found) != page[wrong.title]:
            stale.append(table.row(wrong, found))
        for when, lines, look in zip(("before", "after"), table.lines(wrong, found), (found.before, found.after)):
            if lines == []:
                silent.append((wrong.title, when, look))
    assert not silent
    assert not stale, "to write them anew: selftests/host_check.py\n" + "\n".join(stale)


# What nobody else is to learn of a machine.
SECRETS = ("123e4567-e89b-12d3-a456-426614174000", "correct-horse")


def archives(result) -> dict[str, dict[str, str]]:
    """The files in each archive, by the archive's name."""
    out = {}
    for value in values(result, "archive"):
        name, text = value.split()
        with tarfile.open(fileobj=io.BytesIO(base64.b64decode(text))) as archive:
            files = [member for member in archive if member.isfile()]
            out[name] = {member.name[2:]: archive.extractfile(member).read().decode() for member in files}
    return out


def test_load(driver):
    """host-check --load launches a guest, leaves things as they were, and tells no secrets."""
    result = boot(
        "host-check.sh", "refuse,told-not-to", "loaded,0", "load,unloaded", "loaded,1",
        "+kvm_amd", "load,loaded", "loaded,2",
        driver=driver, guest=True, limit=300, append=f"root=UUID={SECRETS[0]} password={SECRETS[1]}",
        files=host_check.files() | host_check.launcher(),
    )  # fmt: skip
    assert values(result, "load") == ["told-not-to 2", "unloaded 0", "loaded 0"], result.lines
    ours = ["snp_host"] if driver == "ours" else []
    loaded = {line.split()[0]: line.split()[1:] for line in values(result, "loaded")}
    assert loaded == {"0": [], "1": [], "2": ["ccp", "kvm_amd", *ours]}
    launched = [entry for entry in result.commands() if entry["cmd"] == "SNP_LAUNCH_FINISH"]
    assert [entry["status"] for entry in launched] == [0, 0]
    for files in archives(result).values():
        assert {"steps.txt", "log.txt", "command-line.txt", "2-loaded.json", "4-unloaded.json", "guest.txt"} <= {*files}
        assert "FAILED" not in files["steps.txt"] and "launch and run a guest: done" in files["steps.txt"]
        assert ("trace.txt" in files) == (driver == "ours")
        assert "SNP_LAUNCH_UPDATE" in files.get("trace.txt", "SNP_LAUNCH_UPDATE")
        assert "SEV-SNP API:" in files["log.txt"]
        assert re.search(r"root=… password=…", files["command-line.txt"])
        assert not [name for name, text in files.items() if any(secret in text for secret in SECRETS)]
        # No number that could be a chip's; the launch digest belongs to the guest.
        long = [name for name, text in files.items() if re.search(r"[0-9a-fA-F]{32}", text)]
        assert set(long) <= {"guest.txt"}
