# SPDX-License-Identifier: GPL-2.0
# variant.sh [MSR…]: say what the CPUs' MSRs hold ("@msr NUMBER CPU VALUE CPU VALUE …"), load kvm-amd on CPU 0,
# say what it offers and what the CPU model reports, unload.
# shellcheck disable=SC2154 # reply is lib.sh's
. /vm/lib.sh

modprobe msr || fail "the msr module does not load"
for number in "$@"; do
	say msr "$number" "$(rdmsr "$number" | tr '\n' ' ')"
done
taskset 1 modprobe kvm_amd || fail "kvm_amd does not load"
say snp "$(cat /sys/module/kvm_amd/parameters/sev_snp)"
ask reports
say reports "$reply"
unload
