# SPDX-License-Identifier: GPL-2.0
# kvm-selftests.sh LIMIT TEST…: run KVM's own selftests, which lie in /selftests, each for LIMIT seconds at most. Prints
# "@output TEST LINE" for each line of theirs, "@selftest TEST STATUS SECONDS", and "@left TEST PAGES" behind each.
. /vm/lib.sh

modprobe kvm_amd || fail "kvm_amd does not load"
pages_before
limit=$1
shift
for test; do
	start=$(cut -d. -f1 /proc/uptime)
	timeout "$limit" /selftests/"$test" >/tmp/output 2>&1
	status=$?
	sed "s/^/@output $test /" /tmp/output
	say selftest "$test" $status $(($(cut -d. -f1 /proc/uptime) - start))
	pages_left "$test"
done
unload
