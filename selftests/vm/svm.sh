# SPDX-License-Identifier: GPL-2.0
# svm.sh LIMIT TEST…: the same for tests that have nothing to do with SEV, on any machine.
. /vm/lib.sh

modprobe kvm_amd nested=1 || fail "kvm_amd does not load"
limit=$1
shift
for test; do
	selftest "$limit" "$test"
done
