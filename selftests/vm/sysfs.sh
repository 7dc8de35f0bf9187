# SPDX-License-Identifier: GPL-2.0
# sysfs.sh FAULT…: what the driver shows in sysfs. "@file PHASE PATH MODE ANSWER" for each file that is not
# there without ccp, "@write PHASE VALUE ANSWER"; an answer is what was read or written, or the error.
#   loaded    ccp alone
#   FAULT     the same loaded anew, each time with this fault of the PSP
#   up        with kvm_amd, and SNP up
#   refused   firmware refuses SNP_VERIFY_MITIGATION
#   stopped   kvm_amd is unloaded
#   gone      the PSP's registers read all ones
. /vm/lib.sh

pci=/sys/bus/pci/devices/0000:41:00.0/
places="$pci /sys/firmware/sev/vulnerabilities /sys/kernel/ccp"

files() {
	for place in $places; do
		[ -d $place ] && find $place -maxdepth 1 -type f
	done | sort
}

# answer COMMAND…: what it prints, or the error that it ends with.
answer() {
	if text=$("$@" 2>&1); then echo "$text"; else echo "error:${text##*:}"; fi
}
put() { echo "$1" >/sys/firmware/sev/vulnerabilities/verified_mitigations; }

show() {
	files | grep -vxFf /tmp/before | while read -r file; do
		say file "$1" "${file#"$pci"}" "$(stat -c %a "$file")" "$(answer cat "$file")"
	done
}
try() { say write "$1" "$2" "$(answer put "$2")"; }

files >/tmp/before
modprobe ccp || fail "ccp does not load"
show loaded
for fault in "$@"; do
	rmmod ccp || fail "ccp does not unload"
	ask fault "$fault" || fail "the PSP takes no orders"
	modprobe ccp || fail "ccp does not load"
	show "$fault"
done
ask clear
modprobe kvm_amd || fail "kvm_amd does not load"
show up
for value in 0 3 x 4 -1 1 0x2 0b1 18446744073709551616; do try up "$value"; done
show written
ask fault SNP_VERIFY_MITIGATION:status=0x16 || fail "the PSP takes no orders"
show refused
try refused 1
rmmod kvm_amd || fail "kvm_amd does not unload"
show stopped
ask fault start:allones || fail "the PSP takes no orders"
show gone
ask clear
rmmod ccp || fail "ccp does not unload"
show unloaded
