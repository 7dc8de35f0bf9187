# SPDX-License-Identifier: GPL-2.0
# For scripts/mutate: each case loads a module with one planted bug switched on ("NUMBER MODULE SUITES", 0 for
# none), which runs its KUnit suites, and unloads it. Prints "@verdict NUMBER ok | failed TEST", and with
# bug 0 "@reached MASK": which bugs' places those suites have executed.
. /vm/lib.sh

modules=/lib/modules/$(uname -r)/updates
memory_leaks() { :; }

act() {
	number=$2 module=$3 suites=$4
	printf %s "$suites" >/sys/module/kunit/parameters/filter_glob
	[ "$module" = snp_host ] || [ -d /sys/module/snp_host ] || insmod "$modules/snp_host.ko" || return 1
	[ "$module" = ccp ] || ! [ -d /sys/module/snp_host ] || rmmod snp_host || return 1
	dmesg -c >/dev/null
	insmod "$modules/$module.ko" "mutant=$number" || say verdict "$number" failed insmod
	failed=$(dmesg | sed -n 's/^[^a-z]* not ok [0-9]* //p; s/^[^a-z]*not ok [0-9]* //p' | head -n 1)
	say verdict "$number" ${failed:-ok}
	[ "$number" != 0 ] || say reached "$(cat /sys/module/"$module"/parameters/reached)"
	[ ! -d /sys/module/"$module" ] || rmmod "$module"
}

cases act
