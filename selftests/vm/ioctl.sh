# SPDX-License-Identifier: GPL-2.0
# Every good and bad call of /dev/sev, before SNP is initialised and after.
. /vm/lib.sh
modprobe ccp || fail "ccp does not load"
say phase before
sev-ioctl || fail "sev-ioctl failed"
modprobe kvm_amd || fail "kvm_amd does not load"
say phase after
sev-ioctl || fail "sev-ioctl failed"
unload
