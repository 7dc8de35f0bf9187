# SPDX-License-Identifier: GPL-2.0
# For test_wrong_drivers.py: start SNP and launch a guest with the in-tree driver, which forgets what the words of the
# case say (modules/forget.c). Whatever that leads to is what the models say of it. With "again" before the words the
# driver is loaded once more, and asks firmware for its state; "cpuid" is a launch with a CPUID table that firmware
# refuses.
. /vm/lib.sh

try() {
	shift
	again='' guest=''
	case $1 in
	again) again=yes && shift ;;
	cpuid) guest=$1 && shift ;;
	esac
	modprobe ccp || fail "ccp does not load"
	insmod /forget.ko "$@" || fail "nothing can be forgotten: $*"
	modprobe kvm_amd
	say offers "$(cat /sys/module/kvm_amd/parameters/sev_snp 2>/dev/null)"
	for _ in 1 2; do snp-launch ${guest:+"$guest"} || say refused; done
	# Firmware writes to its memory now and then, when it has commands.
	[ -z "$again" ] || for _ in $(seq 50); do sev-ioctl platform-status; done >/dev/null
	rmmod kvm_amd
	rmmod ccp
	[ -z "$again" ] || { modprobe ccp && rmmod ccp; }
	# It says how often.
	rmmod forget
	# What firmware keeps ends with the machine.
	return 1
}

cases try
