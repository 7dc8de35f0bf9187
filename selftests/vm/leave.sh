# SPDX-License-Identifier: GPL-2.0
# The cells of the table of ways to leave SNP (selftests/leave.py): SNP is up, with a guest or without, and then the
# kernel or the driver goes.
# shellcheck disable=SC2154 # stage and reply are lib.sh's
. /vm/lib.sh
pci=0000:41:00.0

# start_guest none|launched|running
start_guest() {
	guest=''
	case $1 in
	launched)
		snp-launch keep >/tmp/launch 2>&1 &
		guest=$!
		until grep -q "^@launch finish 0" /tmp/launch; do
			kill -0 $guest || fail "no guest: $(cat /tmp/launch)"
			sleep 0.1
		done
		;;
	running)
		snp-guest spin &
		guest=$!
		# It asks KVM for pages all the time, once it runs.
		ask scan
		idle=$reply
		until ask scan && [ "$reply" -gt $((idle + 8)) ]; do
			kill -0 $guest || fail "no guest"
			sleep 0.1
		done
		sleep 1
		;;
	esac
}

# look WHEN: what is in the RMP, and which CPUs have SNP_EN.
look() {
	sysfs
	ask scan
	assigned=$reply
	ask snp-state
	say state "$1" "assigned=$assigned $reply"
}

# try FILE VALUE
try() {
	if message=$( { echo "$2" >"$1"; } 2>&1); then say try "done"; else say try "${message##*: }"; fi
}

# cell NAME DOOR GUEST FAULTS: FAULTS are for the PSP model, with + in between, or "-".
cell() {
	door=$2
	if [ "$stage" = second ]; then
		# What is free belongs to the host: it is written to.
		ask mark "phase next"
		look after
		return 1
	fi
	modprobe kvm_amd || fail "kvm_amd does not load"
	[ "$(cat /sys/module/kvm_amd/parameters/sev_snp)" = Y ] || fail "kvm_amd offers no SEV-SNP"
	start_guest "$3"
	# One order: each replaces the one before.
	[ "$4" = - ] || ask fault "$(echo "$4" | tr + ' ')" || fail "the PSP model does not take '$4': $reply"
	look before
	ask mark "phase leave"
	case $door in
	reboot)
		say left
		reboot -f
		sleep 1000
		;;
	panic)
		say left
		echo c >/proc/sysrq-trigger
		;;
	kexec)
		say left
		next_kernel second
		fail "no kernel follows"
		;;
	unbind) try /sys/bus/pci/drivers/ccp/unbind $pci ;;
	remove) try /sys/bus/pci/devices/$pci/remove 1 ;;
	unload)
		for module in kvm_amd ccp; do
			if message=$(rmmod $module 2>&1); then say try "done"; else say try "${message##*: }"; fi
		done
		;;
	esac
	look after
	ask mark "phase end"
	if [ "$guest" ]; then
		# The guest's pages go back by RMPUPDATE.
		sleep 1
		kill $guest 2>/dev/null
		# A task that has had an Oops while it ended never does.
		for _ in $(seq 200); do
			grep -q ' Z ' /proc/$guest/stat 2>/dev/null && break
			[ -d /proc/$guest ] || break
			sleep 0.1
		done
	fi
	look end
	false
}

cases cell
