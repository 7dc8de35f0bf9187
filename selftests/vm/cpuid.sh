# SPDX-License-Identifier: GPL-2.0
# cpuid.sh: launch a guest whose CPUID table firmware corrects; the lines are those of
# programs/snp-launch.c.
. /vm/lib.sh

modprobe kvm_amd || fail "kvm_amd does not load"
snp-launch cpuid || fail "the corrected table is not taken"
unload
