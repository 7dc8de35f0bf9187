# SPDX-License-Identifier: GPL-2.0
# reports.sh RMP: write to the RMP at this address, then to a page of firmware's, before and after SNP is
# initialised; "@WHEN WHAT" with the CPU model's reports so far.
# shellcheck disable=SC2154 # reply is lib.sh's
. /vm/lib.sh

poke() {
	insmod /poke.ko address="$3" || fail "$3 cannot be written"
	rmmod poke
	ask reports
	say "$1" "$2" "$reply"
}

poke before rmp "$1"
modprobe kvm_amd || fail "kvm_amd does not load"
ask reports && say after init "$reply"
ask tmr || fail "where is the TMR?"
poke after tmr "$reply"
poke after rmp "$1"
unload
