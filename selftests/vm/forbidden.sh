# SPDX-License-Identifier: GPL-2.0
# forbidden.sh ADDRESS: with SNP up, do what a processor refuses: "@WHAT WORDS…" with what
# modules/forbidden.c says of it, "@reports WHAT KIND…" with what the CPU model has reported so far.
# ADDRESS is in the RMP.
# shellcheck disable=SC2154 # reply is lib.sh's
. /vm/lib.sh

act() {
	echo "case $1 begins" >/dev/kmsg
	dmesg -c >/dev/null
	insmod /forbidden.ko what="${1%%-*}" ${2:+address=$2} || fail "$1 cannot be tried"
	dmesg | sed -n 's/.*tried: //p' >/tmp/said
	while read -r line; do say "$1" "$line"; done </tmp/said
	rmmod forbidden || fail "the module does not go"
	ask reports
	say reports "$1" "$reply"
	echo "case $1 ends" >/dev/kmsg
}

# guest PROMPT: have the guest write to its page, and say "@guest wrote" or "@guest stuck".
guest() {
	echo "$1" >&5
	read -r line <&6
	say guest-"$1" "${line#@guest }"
}

modprobe kvm_amd || fail "kvm_amd does not load"
act psmash
act overlap
ask no-psmash 0 0x80000000 || fail "$reply"
act psmash-refused
ask no-psmash 0 0
ask tmr || fail "where is the TMR?"
act write-tmr "$reply"
ask iommu || fail "where is a page of the IOMMU's?"
act write-iommu "$reply"
ask semaphore || fail "where is the IOMMU's semaphore?"
act write-semaphore "$reply"
act write-rmp "$1"
mkfifo /tmp/to /tmp/from
plain-guest </tmp/to >/tmp/from &
exec 5>/tmp/to 6</tmp/from
read -r line <&6
page=${line#@page }
guest before
ask no-rmpupdate "$page" 4096 || fail "$reply"
act give-refused "$page"
ask no-rmpupdate 0 0
act give "$page"
guest given
act take "$page"
guest taken
exec 5>&-
act large
act stale
act alias
act table
act vmcb
act hsave
