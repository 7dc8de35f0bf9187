# SPDX-License-Identifier: GPL-2.0
# guest-small.sh GUEST…: run guests of the program snp-guest. Prints what that says, and "@left GUEST PAGES" behind each.
. /vm/lib.sh

modprobe kvm_amd || fail "kvm_amd does not load"
pages_before
for guest; do
	timeout 60 snp-guest "$guest" || say guest "$guest" status $?
	pages_left "$guest"
done
unload
