# SPDX-License-Identifier: GPL-2.0
# Every call that sev-ioctl knows, in all states of the platform ("@phase NAME", selftests/ioctls.py).
. /vm/lib.sh

# phase NAME PATTERN…: make these calls.
phase() {
	say phase "$1"
	shift
	sev-ioctl "$@" || fail "sev-ioctl failed"
}

# refused PHASE FAULTS PATTERN…: while firmware refuses something.
refused() {
	# shellcheck disable=SC2086 # they are words
	ask fault $2 || fail "the PSP takes no orders"
	name=$1
	shift 2
	phase "$name" "$@"
	ask clear
}

# background PROGRAM [ARGUMENT] TEXT: start it, and wait until it says TEXT.
background() {
	for text; do :; done
	"$1" "$2" >/tmp/guest &
	guest=$!
	for _ in $(seq 200); do
		grep -q "$text" /tmp/guest && return
		sleep 0.1
	done
	fail "$1 does not get as far as $text"
}

ended() {
	kill $guest
	wait $guest
}

# With SNP up and buffers of more than 8 KiB the kernel does not outlive the in-tree driver (its lists of free pages are
# broken, or a page of them cannot be written to). With ours they are a phase of their own.
small='!*-limit'
# All but what stops SEV.
others="ioctl-* platform-* get-id* pdh* pek-* snp-* vlek* command-*"
# What is carried out only while SEV is up.
brackets="pek-gen pdh-gen pek-csr pek-csr:length pek-import pdh pdh:length"
# What starts and stops nothing.
steady="ioctl-* platform-* get-id* snp-* vlek* command-*"
commands="PLATFORM_STATUS SNP_PLATFORM_STATUS GET_ID PDH_CERT_EXPORT PEK_GEN PDH_GEN PEK_CSR PEK_CERT_IMPORT"
commands="$commands SNP_CONFIG SNP_COMMIT SNP_VLEK_LOAD FACTORY_RESET"
# No command starts or stops something if none of these is carried out.
faults=
for command in $commands; do faults="$faults $command:status=0x3"; done
plain="platform-status snp-platform-status get-id2 get-id pdh pek-gen pdh-gen pek-csr pek-import snp-config snp-commit"
plain="$plain vlek"

modprobe ccp || fail "ccp does not load"
phase fresh '*'
# shellcheck disable=SC2086 # here and below they are words
refused fresh-refused "$faults" $plain factory-reset
# shellcheck disable=SC2086
refused init-refused INIT:status=0x13 $brackets
refused flush-refused DF_FLUSH:status=0x0e pek-gen factory-reset
# The in-tree driver frees its TMR only now, and cannot start SEV beside SNP with one from before.
phase flush pek-gen

modprobe kvm_amd || fail "kvm_amd does not load"
# shellcheck disable=SC2086
phase up $others "$small"
[ ! -d /sys/module/snp_host ] || phase up-large '*-limit'
# shellcheck disable=SC2086
refused up-refused "$faults" $plain
background sev-launch stay "launch start"
phase sev-guest '*' "$small"
ended
background snp-launch keep "launch finish"
# shellcheck disable=SC2086
phase snp-guest $others "$small"
ended
phase reset factory-reset
# shellcheck disable=SC2086
phase sev-down $steady "$small" pdh:read-only 'factory-reset*'
say phase reset-launch
sev-launch
phase reset-used platform-status get-id2 pdh

rmmod kvm_amd || fail "kvm_amd does not unload"
phase stopped '*'
modprobe kvm_amd || fail "kvm_amd does not load again"
echo 2 >/sys/module/ccp/parameters/psp_cmd_timeout
# The in-tree driver frees a page that it has put on a list of lost pages, and the next page for that list is a bug once
# somebody has used the first. So all that lose one come at the end, and close together.
refused page-kept SNP_PAGE_RECLAIM@1:status=0x1a snp-platform-status
refused page-kept-refused "SNP_PAGE_RECLAIM@1:status=0x1a SNP_PLATFORM_STATUS:status=0x16" snp-platform-status
# With SNP up and SEV down.
phase dying factory-reset
refused dies SNP_PLATFORM_STATUS:silent snp-platform-status
phase dead snp-platform-status
# shellcheck disable=SC2086
phase dead ioctl-* platform-* get-id* pdh* pek-* snp-c* vlek* command-* factory-reset* "$small"
rmmod kvm_amd ccp || fail "the modules do not unload"
