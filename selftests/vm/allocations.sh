# SPDX-License-Identifier: GPL-2.0
# For test_allocations.py, on the debug kernel: in each operation the 1st, 2nd, 3rd … allocation that is made
# by our modules or on their behalf fails.
. /vm/lib.sh
. /vm/fail-nth.sh

calls="platform-status snp-platform-status get-id2 pdh pek-gen pdh-gen pek-csr snp-config snp-commit vlek"

# Each operation has what must be loaded before, and the program that does it.
needs() {
	case $1 in
	load) ;;
	init | unload) echo ccp ;;
	launch | ask | shutdown) echo kvm_amd ;;
	esac
}
program() {
	case $1 in
	load) echo modprobe ccp ;;
	init) echo modprobe kvm_amd ;;
	launch) echo snp-launch ;;
	ask) echo sev-ioctl $calls ;;
	shutdown) echo rmmod kvm_amd ;;
	unload) echo rmmod ccp snp_host ;;
	esac
}

insmod /pages_held.ko || fail "nobody counts pages"
held=/sys/module/pages_held/parameters
disabled=0x$(symbol cpu_hotplug_disabled | head -n 1)

# count_below FUNCTION: allocations that are made for this function of the kernel.
count_below() {
	# shellcheck disable=SC2046 # they are words
	set -- $(symbol "$1")
	count "0x$1" "0x$2"
}

# The kernel's modules lie in the last part of the address space, and while kvm-amd is not loaded they are ours.
count_all() { count 0xffffffffa0000000 0xffffffffff000000; }

# What ccp does for others, itself or through snp_host: below a function of its own.
count_ccp() {
	begin=$(cat /sys/module/ccp/sections/.text)
	count "$begin" "$(printf 0x%x $((begin + size)))"
}

milliseconds() {
	read -r up _ </proc/uptime
	echo "${up%.*}${up#*.}0"
}

# What everybody can see: which modules are there, the node, what kvm-amd offers, the window, the kernel's count; and
# the pages that our modules have (selftests/modules/pages_held.c).
look() {
	say "$1" "modules=$(for m in snp_host ccp kvm_amd; do [ -d /sys/module/$m ] && echo $m; done | tr '\n' ,)" \
		"node=$([ -c /dev/sev ] && echo yes || echo no)" \
		"snp=$(cat /sys/module/kvm_amd/parameters/sev_snp 2>/dev/null || echo none)" \
		"window=$(cat /sys/kernel/snp_host/state 2>/dev/null || echo none)" \
		"disabled=$(kernel-counter "$disabled")"
	say "${1%state}pages" "$(cat $held/held)"
}

# run NAME PROGRAM…: run it and say what came of it: "@NAME STATUS MILLISECONDS WORDS", and what it says itself.
run() {
	name=$1
	shift
	begun=$(milliseconds)
	words=$("$@" 2>&1)
	status=$?
	say "$name" $status $(($(milliseconds) - begun)) "$(echo "$words" | grep -v '^@' | tr '\n' ' ')"
	echo "$words" | grep '^@' | sed "s/^@/@$name-/"
	look "$name-state"
}

# prepare OPERATION: unload what it does not need, load what it does; "@base PAGES" is what is assigned in the RMP.
prepare() {
	for module in kvm_amd ccp snp_host; do
		[ "$module" != "$(needs "$1")" ] || break
		[ ! -d /sys/module/$module ] || rmmod $module || return 1
	done
	# shellcheck disable=SC2046 # nothing or a word
	[ -z "$(needs "$1")" ] || modprobe $(needs "$1") || return 1
	# shellcheck disable=SC2154 # ask leaves it there
	ask scan && say base "$reply"
	look base-state
}

# begin NAME N: "@round NAME N" begins a round.
begin() {
	say round "$1" "$2"
	echo "round $1-$2" >/dev/kmsg
	prepare "$what" || return 1
	case $1 in *@*) count_below "${1#*@}" ;; load | unload) count_all ;; *) count_ccp ;; esac
}

# strike NAME N: a round in which the Nth allocation fails. $left is by how many there were too few, or 0.
strike() {
	begin "$1" "$2" || return 1
	# shellcheck disable=SC2046 # they are words
	run struck fail-nth "$2" $(program "$what")
	left=$(echo "$words" | sed -n 's/^@fail-nth //p')
}

# once_more: the operation without a failure.
once_more() {
	prepare "$what" || return 1
	# shellcheck disable=SC2046 # they are words
	run after $(program "$what")
}

# operation NAME FIRST STRIDE LAST: the FIRST allocation fails, then the one STRIDE later … up to LAST, or until the
# operation ends before it has made so many; each time the operation is done once more then. If the FIRST does not come,
# another one fails in its place. NAME@FUNCTION: the first one alone that is made for this function of the kernel.
operation() {
	what=${1%@*} n=$2
	case $1 in
	*@*)
		strike "$1" 1
		return
		;;
	esac
	while [ "$n" -le "$4" ]; do
		strike "$1" "$n" && once_more || return 1
		[ "$left" = 0 ] || break
		n=$((n + $3))
	done
	if [ "$left" != 0 ] && [ "$n" = "$2" ]; then
		strike "$1" $(((n - 1) % (n - left) + 1)) && once_more || return 1
	fi
}

# operations CASE SIZE [NAME FIRST STRIDE LAST]…: SIZE is that of ccp's code.
operations() {
	size=$2
	shift 2
	while [ $# != 0 ]; do
		operation "$1" "$2" "$3" "$4" || return 1
		shift 4
	done
	say end
	echo "round end" >/dev/kmsg
	prepare load
	say counted "$(cat $held/calls)"
}

cases operations
