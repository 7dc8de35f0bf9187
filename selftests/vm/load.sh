# SPDX-License-Identifier: GPL-2.0
# Load kvm-amd, say what it offers, unload.
. /vm/lib.sh
modprobe kvm_amd || fail "kvm_amd does not load"
say sev "$(cat /sys/module/kvm_amd/parameters/sev)"
say snp "$(cat /sys/module/kvm_amd/parameters/sev_snp)"
[ -c /dev/kvm ] && say kvm yes
unload
