# SPDX-License-Identifier: GPL-2.0
"""Verifies a report with secretvm-verify of PyPI: verify.py LIBRARY SERVICE PRODUCT REPORT. Its requests to AMD's key
service go to SERVICE, an http:// address, and the root that it trusts is that of SERVICE; all else is the library's."""

import importlib
import sys
import types
from pathlib import Path

import requests
from cryptography import x509

library, service, product, report = sys.argv[1:]
# Its packages' own __init__ wants libraries for other machines.
for name in ("secretvm", "secretvm.verify"):
    package = types.ModuleType(name)
    package.__path__ = [str(Path(library, *name.split(".")))]
    sys.modules[name] = package
amd = importlib.import_module("secretvm.verify.amd")
amd._AMD_KDS_BASE = service
_, ark = x509.load_pem_x509_certificates(
    requests.get(f"{service}/vcek/v1/{product}/cert_chain", timeout=10).content
)  # fmt: skip
amd._PINNED_ARK_SPKI_SHA256[product] = amd._amd_spki_sha256_hex(ark)
result = amd.check_sev_cpu_attestation(Path(report).read_bytes().hex(), product, reload_amd_kds=True, strict=True)
print(result.checks, result.errors)
sys.exit(not result.valid)
