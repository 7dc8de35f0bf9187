# SPDX-License-Identifier: GPL-2.0
# sleep.sh WHEN…: suspend to RAM, and come back: "before" SNP was up, "during" that, or "after".
# Prints "@slept WHEN yes|no snp_en=CPUS", with the CPUs as they are then. A guest is launched in
# the end.
# shellcheck disable=SC2154 # reply is lib.sh's
. /vm/lib.sh

times=" $* "
sleep_and_wake() {
	case $times in *" $1 "*) ;; *) return ;; esac
	echo 0 >/sys/class/rtc/rtc0/wakealarm
	echo +4 >/sys/class/rtc/rtc0/wakealarm
	slept=yes
	echo mem >/sys/power/state || slept=no
	ask snp-state
	say slept "$1" $slept "${reply%% *}"
}

echo deep >/sys/power/mem_sleep || fail "this machine has no S3"
modprobe ccp psp_cmd_timeout=5 || fail "ccp does not load"
sleep_and_wake before
modprobe kvm_amd || fail "kvm_amd does not load"
sleep_and_wake during
rmmod kvm_amd || fail "kvm_amd does not unload"
sleep_and_wake after
modprobe kvm_amd || fail "kvm_amd does not load again"
say snp "$(cat /sys/module/kvm_amd/parameters/sev_snp)"
snp-launch
unload
