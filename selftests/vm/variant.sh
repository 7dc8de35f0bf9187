# SPDX-License-Identifier: GPL-2.0
# variant.sh [MSR…]: say what the CPUs' MSRs hold ("@msr NUMBER CPU VALUE CPU VALUE …"), load kvm-amd,
# say what it offers and what the CPU model reports, unload. All on CPU 0: on a CPU without SNP_EN, RMPUPDATE
# is an undefined instruction, and the in-tree driver executes it where it happens to run.
# shellcheck disable=SC2154 # reply is lib.sh's
. /vm/lib.sh

taskset -p 1 $$ >/dev/null || fail "this cannot stay on CPU 0"
modprobe msr || fail "the msr module does not load"
for number in "$@"; do
	say msr "$number" "$(rdmsr "$number" | tr '\n' ' ')"
done
modprobe kvm_amd || fail "kvm_amd does not load"
say snp "$(cat /sys/module/kvm_amd/parameters/sev_snp)"
ask reports
say reports "$reply"
unload
