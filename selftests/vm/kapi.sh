# SPDX-License-Identifier: GPL-2.0
# kapi.sh MODULE PARAMETERS…: call what ccp exports, with SNP initialised.
. /vm/lib.sh
modprobe kvm_amd || fail "kvm_amd does not load"
insmod "$@" || fail "the test module does not load"
dmesg | sed -n 's/.*kapi: /@kapi /p'
[ ! -e /sys/kernel/ccp/lost_pages ] || say lost "$(cat /sys/kernel/ccp/lost_pages)"
rmmod kapi_test
unload kapi
