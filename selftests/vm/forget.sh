# SPDX-License-Identifier: GPL-2.0
# For test_wrong_drivers.py: start SNP and launch a guest with the in-tree driver, which forgets what the words of the
# case say (modules/forget.c). Whatever that leads to is what the models say of it.
. /vm/lib.sh

try() {
	shift
	modprobe ccp || fail "ccp does not load"
	insmod /forget.ko "$@" || fail "nothing can be forgotten: $*"
	modprobe kvm_amd
	say offers "$(cat /sys/module/kvm_amd/parameters/sev_snp 2>/dev/null)"
	snp-launch
	snp-launch
	rmmod kvm_amd
	rmmod ccp
	# It says how often.
	rmmod forget
	# What firmware keeps ends with the machine.
	return 1
}

cases try
