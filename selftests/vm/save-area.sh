# SPDX-License-Identifier: GPL-2.0
# save-area.sh: under a virtual machine, an ioctl of /dev/sev for which SEV is started, and then an
# SNP guest. "@snp STATE" is SNP's after the ioctl, "@guest WHEN wrote" what the machine does before
# and after all that, "@reports KIND…" what the CPU model has reported.
# shellcheck disable=SC2154 # reply is lib.sh's
. /vm/lib.sh

modprobe ccp psp_init_on_probe=0 || fail "ccp does not load"
modprobe kvm_amd || fail "kvm_amd does not load"
mkfifo /tmp/to /tmp/from
plain-guest </tmp/to >/tmp/from &
exec 5>/tmp/to 6</tmp/from
read -r line <&6
guest() {
	echo >&5
	read -r line <&6
	say guest "$1" "${line#@guest }"
}
guest before
sev-ioctl pek-gen
ask snp-state
say snp "${reply%% *}"
snp-launch
guest after
exec 5>&-
wait
ask reports
say reports "$reply"
unload
