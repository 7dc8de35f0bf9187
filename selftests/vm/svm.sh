# SPDX-License-Identifier: GPL-2.0
# svm.sh LIMIT TEST…: run KVM's own selftests for SVM, each for LIMIT seconds at most, on a machine
# with or without the models. Prints what `selftest` does.
. /vm/lib.sh

modprobe kvm_amd nested=1 || fail "kvm_amd does not load"
limit=$1
shift
for test; do
	selftest "$limit" "$test"
done
