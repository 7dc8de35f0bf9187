# SPDX-License-Identifier: GPL-2.0
# kvm-selftests.sh LIMIT TEST…: run KVM's own selftests, each for LIMIT seconds at most. Prints what
# `selftest` does, and "@left TEST PAGES" behind each.
. /vm/lib.sh

modprobe kvm_amd || fail "kvm_amd does not load"
pages_before
limit=$1
shift
for test; do
	selftest "$limit" "$test"
	pages_left "$test"
done
unload
