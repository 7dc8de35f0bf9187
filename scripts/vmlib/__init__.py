# SPDX-License-Identifier: GPL-2.0
"""Boot virtual machines on the software SNP platform. Runs inside the root directory."""
