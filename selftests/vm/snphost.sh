# SPDX-License-Identifier: GPL-2.0
# snphost.sh: the commands of snphost that ask firmware, before SNP is up and while it is: "@host WHEN-NAME STATUS",
# "@out WHEN-NAME LINE".
. /vm/lib.sh

host() {
	name=$1
	shift
	if snphost "$@" >/tmp/out 2>&1; then status=0; else status=$?; fi
	say host "$when-$name $status"
	sed "s/^/@out $when-$name /" /tmp/out
}

modprobe msr || fail "msr does not load"
modprobe ccp || fail "ccp does not load"
when=loaded
host ok ok
for what in tcb version identifier; do host $what show $what; done
modprobe kvm_amd || fail "kvm_amd does not load"
when=up
host ok ok
for what in guests identifier tcb vcek-url vlek-url hashsticks-url version; do host $what show $what; done
snp-launch keep >/tmp/launch &
guest=$!
until grep -q "^@launch finish 0" /tmp/launch; do sleep 0.1; done
host one-guest show guests
kill $guest
wait $guest
# TCBs as boot loader, TEE, SNP firmware, microcode; CHIP_ID is masked in reports.
host config-too-high config set 4 0 22 219 0
host commit commit
host config-newer config set 4 0 22 219 0
host tcb-newer show tcb
host config-older config set 4 0 20 219 1
host tcb-older show tcb
host config-reset config reset
host tcb-reset show tcb
host ok-reset ok
head -c 432 /dev/zero >/tmp/hashstick
host vlek-load vlek-load /tmp/hashstick
unload
