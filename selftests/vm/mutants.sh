# SPDX-License-Identifier: GPL-2.0
# For scripts/mutate: each case is a bug and what is to notice it ("NUMBER MODULE TEST…"): KUnit tests of a
# module, by their places in it and the most seconds that they may take ("7/10"), or "load", which is loading
# and unloading it. They are run with the bug switched on, until one notices. Prints "@test TEST" before each,
# and after it "@verdict TEST OUTCOME NAME MICROSECONDS", where the outcome is ok, failed or reported. Without a
# bug (0) also "@reached TEST MASK", the places that were executed.
. /vm/lib.sh

modules=/lib/modules/$(uname -r)/updates
parameters=/sys/module/mutants/parameters
memory_leaks() { :; }
sysfs() { :; }

# Nothing is forked here that need not be: a process costs more than a test.
loaded=
unload_all() {
	[ ! -d /sys/module/ccp ] || rmmod ccp || return 1
	[ ! -d /sys/module/snp_host ] || rmmod snp_host || return 1
	loaded=
}

load() {
	[ "$loaded" = "$1" ] && return
	unload_all || return 1
	insmod "$modules/snp_host.ko" || return 1
	[ "$1" = snp_host ] || insmod "$modules/ccp.ko" || return 1
	loaded=$1
}

# The module alone; ccp.ko needs the other one.
reload() {
	load "$module" && rmmod "$module" || return 1
	loaded=
	echo "$number" >$parameters/on
	echo clear >$parameters/reached
	insmod "$modules/$module.ko" && rmmod "$module"
	status=$?
	echo 0 >$parameters/on
	[ $status = 0 ]
}

run() {
	load "$module" || return 1
	echo "$number" >$parameters/on
	echo clear >$parameters/reached
	echo "$module $1 $2" >$parameters/run
	echo 0 >$parameters/on
}

act() {
	number=$2 module=$3
	shift 3
	for word; do
		test=${word%/*}
		say test "$test"
		if [ "$test" = load ]; then
			reload && verdict="ok load 0" || verdict="failed load 0"
			read -r reported <$parameters/reported
			[ "$reported" = N ] || verdict="reported load 0"
		else
			run "$test" "${word#*/}" && read -r verdict <$parameters/run || verdict="failed load 0"
		fi
		[ "$number" != 0 ] || say reached "$test" "$(cat $parameters/reached)"
		say verdict "$test" "$verdict"
		case $verdict in
		ok*) ;;
		# They report once in the life of a kernel.
		reported*) return 1 ;;
		*)
			# What a bug has left behind must not look like the next one.
			unload_all
			return
			;;
		esac
	done
}

cases act
