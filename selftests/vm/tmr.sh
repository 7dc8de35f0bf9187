# SPDX-License-Identifier: GPL-2.0
# tmr.sh write|refused: with SEV up without SNP, write over the TMR as whoever gets it does that is
# freed too early, or have firmware refuse to stop SEV. It has commands before and after.
# shellcheck disable=SC2154 # reply is lib.sh's
. /vm/lib.sh

commands() {
	n=0
	while [ $((n += 1)) -le 50 ]; do
		sev-ioctl platform-status || fail "the PSP does not answer"
	done >/dev/null
}

modprobe kvm_amd || fail "kvm_amd does not load"
if [ "$1" = refused ]; then
	commands
	ask fault SHUTDOWN@1:status=0x1 || fail "the PSP takes no orders"
	rmmod kvm_amd || fail "kvm_amd does not unload"
	commands
	rmmod ccp || fail "ccp does not unload"
	exit 0
fi
ask tmr || fail "where is the TMR?"
commands
insmod /poke.ko address="$reply" zeros=1048576 || fail "the TMR cannot be written"
rmmod poke
commands
unload
