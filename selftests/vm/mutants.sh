# SPDX-License-Identifier: GPL-2.0
# For scripts/mutate: each case is a bug and what is to notice it ("NUMBER MODULE TEST…"): KUnit tests of a
# module, by their places in it and the most seconds that they may take ("7/10"), or "load", which is loading
# and unloading it. They are run with the bug switched on, until one notices. Prints "@test TEST" before each,
# and after it "@verdict TEST OUTCOME NAME MICROSECONDS", where the outcome is ok, failed, late, reported, or again:
# the bug needs another machine. Without a bug (0) also "@reached TEST MASK", the places that were executed.
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

# A test, with a bug; sets `verdict`.
run() {
	verdict="failed load 0"
	load "$module" || return
	echo "$1" >$parameters/on
	echo clear >$parameters/reached
	echo "$module $2 $3" >$parameters/run && read -r verdict <$parameters/run
	echo 0 >$parameters/on
}

# What a bug has left behind must not look like the next one. Loading the modules again takes longer than a test,
# so they stay if the test that has failed passes without the bug. If it does not, and another bug was there
# before, the test says nothing of this bug until it has run in modules that are loaded anew. A report of the
# kernel's checks, which comes once in its life, says nothing then until the bug has had a machine of its own.
used=
judge() {
	case $verdict in
	ok*) return ;;
	reported*)
		[ ! "$used" ] || verdict="again ${verdict#reported }"
		return
		;;
	esac
	noticed=$verdict
	run 0 "$@"
	passes=$verdict verdict=$noticed
	case $passes in
	ok*) used=yes ;;
	*)
		unload_all || return
		[ ! "$used" ] || run "$number" "$@"
		;;
	esac
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
			run "$number" "$test" "${word#*/}"
			[ "$number" = 0 ] || judge "$test" "${word#*/}"
		fi
		[ "$number" != 0 ] || say reached "$test" "$(cat $parameters/reached)"
		say verdict "$test" "$verdict"
		case $verdict in
		ok*) ;;
		failed* | late*) return ;;
		# A machine in which the kernel has reported something goes no further.
		*) return 1 ;;
		esac
	done
}

cases act
