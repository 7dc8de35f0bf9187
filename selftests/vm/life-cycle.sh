# SPDX-License-Identifier: GPL-2.0
# The cells of the life-cycle table (selftests/life_cycle.py): SNP is initialised, something happens, and
# then somebody takes a CPU offline, suspends, and plugs a CPU in.
. /vm/lib.sh
cpus=/sys/devices/system/cpu
pm_test_delay=/sys/module/suspend/parameters/pm_test_delay # seconds that a suspend waits before it goes back
reply=''

# What the machine looks like, "@state WHEN" and words: the kernel's own count of outstanding
# cpu_hotplug_disable() calls, the window, what the models say, the CPUs that are online.
look() {
	ask snp-state || fail "$reply"
	window=none
	[ -d /sys/kernel/snp_host ] && window=$(cat /sys/kernel/snp_host/state)
	say state "$1" "count=$(kernel-counter cpu_hotplug_disabled) window=$window online=$(cat $cpus/online) $reply"
}

# try NAME FILE VALUE: "@try NAME done" or the error that the kernel gives.
try() {
	if message=$( { echo "$3" >"$2"; } 2>&1); then
		say try "$1" "done"
		true
	else
		say try "$1" "${message##*: }"
		false
	fi
}

intree=/lib/modules/$(uname -r)/kernel
in_tree_before() {
	modprobe kvm
	# shellcheck disable=SC2086
	insmod $intree/drivers/crypto/ccp/ccp.ko* && insmod $intree/arch/x86/kvm/kvm-amd.ko* ||
		fail "the in-tree driver does not load"
	rmmod kvm_amd ccp || fail "the in-tree driver does not unload"
}

# initialise INIT EVENT: the first initialisation, and what happens before.
initialise() {
	init=$1 event=$2
	timeouts=''
	ask mark "phase before"
	[ "$event" = intree ] && in_tree_before
	ask mark "phase initialise"
	case $init in
	ok) ;;
	offline) echo 0 >$cpus/cpu1/online ;;
	*:silent) timeouts="psp_cmd_timeout=3" ;;
	esac
	case $init in
	*:*) ask fault "$init" || fail "the PSP model does not take '$init': $reply" ;;
	esac
	# shellcheck disable=SC2086
	modprobe ccp $timeouts
	modprobe kvm_amd
}

# cell NAME INIT EVENT: INIT is "ok", "offline" or faults for the PSP model, with commas in between.
# shellcheck disable=SC2154 # stage is lib.sh's
cell() {
	init=$2 event=$3
	if [ "$stage" = first ]; then
		initialise "$init" "$event"
		ask mark "phase event"
	fi
	case $event in
	ccp) rmmod kvm_amd ccp && modprobe kvm_amd ;;
	kvm) rmmod kvm_amd && modprobe kvm_amd ;;
	kexec)
		[ "$stage" = second ] || next_kernel second || fail "no kernel follows"
		modprobe kvm_amd
		;;
	remove)
		rmmod kvm_amd ccp
		if message=$(rmmod snp_host 2>&1); then say try remove "done"; else say try remove "${message##*: }"; fi
		;;
	esac
	look event

	ask mark "phase attempts"
	# A CPU that is offline comes back first, if it may.
	if [ "$(cat $cpus/cpu1/online)" = 0 ] && ! try online-again $cpus/cpu1/online 1; then
		say try offline "is off"
		say try smt "is off"
	else
		try offline $cpus/cpu1/online 0 && echo 1 >$cpus/cpu1/online
		try smt $cpus/smt/control off && echo on >$cpus/smt/control
	fi
	echo processors >/sys/power/pm_test
	echo 0 >$pm_test_delay
	try suspend /sys/power/state mem
	ask plug-cpu || fail "no CPU can be plugged in: $reply"
	for _ in $(seq 50); do
		[ -e $cpus/cpu2/online ] && break
		sleep 0.1
	done
	try online $cpus/cpu2/online 1
	look attempts
	ask mark "phase end"
	# One cell, one machine: a CPU was plugged in.
	false
}

cases cell
