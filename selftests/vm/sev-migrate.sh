# SPDX-License-Identifier: GPL-2.0
# sev-migrate.sh [there]: a plain SEV guest is launched, looked at and sent, by KVM's ioctls for it, and
# received; the lines are those of programs/sev-migrate.c.
. /vm/lib.sh

modprobe kvm_amd || fail "kvm_amd does not load"
sev-migrate "$@" || fail "the guest is not sent"
unload
