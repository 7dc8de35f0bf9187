# SPDX-License-Identifier: GPL-2.0
# Calls of /dev/sev in all states of the platform. ioctl.sh CASE:
#   calls   every good and bad call, before SNP is initialised and after
#   states  the calls that change something: with SEV down and up, with a guest, after a factory reset, with
#           SNP_EN set and SNP down, with commands that firmware refuses, and with a mailbox that has died
. /vm/lib.sh

# Calls that need SEV, and bring it up.
brackets="pek-gen pdh-gen pek-csr pek-csr-length pek-csr-too-long pek-import pek-import-without-oca pek-import-too-long"
brackets="$brackets pdh pdh-length pdh-read-only"
# All others that change something.
changes="snp-config snp-commit-read-only snp-commit vlek"

# calls PHASE [CALL…]
calls() {
	say phase "$1"
	shift
	sev-ioctl "$@" || fail "sev-ioctl failed"
}

# refused PHASE FAULT CALL…
refused() {
	ask fault "$2" || fail "the PSP takes no orders"
	phase=$1
	shift 2
	calls "$phase" "$@"
	ask clear
}

case $1 in
calls)
	modprobe ccp || fail "ccp does not load"
	calls before
	modprobe kvm_amd || fail "kvm_amd does not load"
	calls after
	unload
	;;
states)
	modprobe ccp || fail "ccp does not load"
	# shellcheck disable=SC2086 # they are words
	calls down $brackets $changes factory-reset platform-status
	refused init-refused INIT:status=0x13 pek-gen pek-csr pdh pek-import
	refused flush-refused DF_FLUSH:status=0x0e pek-gen factory-reset
	# The in-tree driver frees its TMR only now, and cannot start SEV beside SNP with one from before.
	calls flush pek-gen
	modprobe kvm_amd || fail "kvm_amd does not load"
	# shellcheck disable=SC2086
	calls up $brackets $changes
	sev-launch stay >/tmp/guest &
	guest=$!
	for _ in $(seq 100); do
		grep -q "launch start" /tmp/guest && break
		sleep 0.1
	done
	calls working factory-reset platform-status
	kill $guest
	wait $guest
	calls reset factory-reset platform-status
	say phase reset-launch
	sev-launch
	calls reset-used platform-status get-id2 pdh
	refused page-kept SNP_PAGE_RECLAIM@1:status=0x1a snp-platform-status
	ask fault SNP_PLATFORM_STATUS:status=0x16
	refused page-kept-refused SNP_PAGE_RECLAIM@1:status=0x1a snp-platform-status
	rmmod kvm_amd || fail "kvm_amd does not unload"
	# shellcheck disable=SC2086
	calls stopped $brackets $changes platform-status snp-platform-status factory-reset
	modprobe kvm_amd || fail "kvm_amd does not load again"
	echo 2 >/sys/module/ccp/parameters/psp_cmd_timeout
	# With SNP up and SEV down.
	calls dying factory-reset
	refused dies SNP_PLATFORM_STATUS:silent snp-platform-status
	# shellcheck disable=SC2086
	calls dead $brackets $changes platform-status snp-platform-status get-id2 get-id factory-reset
	rmmod kvm_amd ccp || fail "the modules do not unload"
	;;
esac
