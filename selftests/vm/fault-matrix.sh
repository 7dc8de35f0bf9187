# SPDX-License-Identifier: GPL-2.0
# The cells of the fault matrix (selftests/fault_matrix.py): load, launch, ask, unload, with a fault in one
# of these phases; then everything once more without a fault.
# shellcheck disable=SC2154 # line is lib.sh's
. /vm/lib.sh

# Calls of /dev/sev, in an order in which all of them reach firmware, and those that change nothing.
questions="platform-status snp-platform-status"
calls="platform-status snp-platform-status get-id2 pdh pek-gen pdh-gen pek-csr pek-import"
calls="$calls snp-config snp-commit vlek factory-reset"

# step NAME COMMAND…: "@step NAME STATUS MILLISECONDS WORDS", and its lines as "@NAME-…".
step() {
	name=$1
	shift
	timed "step $name" "$name" "$@"
}

offers() {
	for what in sev sev_es sev_snp; do
		read_file /sys/module/kvm_amd/parameters/$what
		say "$1" $what "$line"
	done
}

unload_all() {
	step "$1-kvm_amd" rmmod kvm_amd
	step "$1-ccp" rmmod ccp
	read_file /sys/kernel/snp_host/state
	state=$line
	read_file /sys/kernel/snp_host/snp_en_cpus
	say "$1" window "$state" "$line"
}

# cell NAME PHASE SECONDS WAIT SPEC…: the fault strikes in PHASE; commands time out after SECONDS (0: the
# default); after the unloading, WAIT seconds are given to an answer that is late.
cell() {
	phase=$2 seconds=$3 wait=$4
	shift 4
	faults=$* timeouts='' gone=''
	[ "$seconds" = 0 ] || timeouts="psp_cmd_timeout=$seconds psp_probe_timeout=$seconds"

	enter probe
	# shellcheck disable=SC2086 # they are words
	step load-ccp modprobe ccp $timeouts
	enter init
	step load-kvm_amd modprobe kvm_amd
	offers loaded
	enter launch
	step launch snp-launch
	enter ask
	# shellcheck disable=SC2086
	if [ "$phase" = ask ]; then step ask sev-ioctl $calls; else step ask sev-ioctl $questions; fi
	enter unload
	unload_all unload
	ask scan && say assigned "$reply"

	while [ "$wait" != 0 ] && ask pending && [ -n "$reply" ]; do
		sleep 1
		wait=$((wait - 1))
	done
	ask clear || gone=yes
	enter again
	step again-ccp modprobe ccp
	step again-kvm_amd modprobe kvm_amd
	offers again
	# shellcheck disable=SC2086
	step again-ask sev-ioctl $questions
	unload_all reunload
	rmmod snp_host 2>/dev/null
	# SNP_EN that stays set, a module that does, or a PSP that does not come back would be the next
	# case's. So would a guest's page that KVM could not take back: it puts it on the kernel's list of
	# lost pages and frees it all the same, and the next page for that list finds it broken.
	[ -z "$gone" ] && [ ! -d /sys/module/snp_host ] && [ ! -d /sys/module/ccp ] && ! dmesg | grep -q sev_gmem_make_shared
}

# The phase begins: so do its faults.
enter() {
	ask mark "phase $1"
	echo "phase $1" >/dev/kmsg
	[ "$phase" = "$1" ] || return 0
	ask fault "$faults" || fail "the PSP model does not take '$faults': $reply"
}

cases cell
