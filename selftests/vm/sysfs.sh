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
# tell PHASE: "@state PHASE LINE" for each line of what the driver knows, between two marks in the trace; and
# "@took PHASE MILLISECONDS". "@metric PHASE LINE": tools/metrics.
tell() {
	ccp-metrics | sed "s/^/@metric $1 /"
	[ -e /sys/kernel/debug/ccp/state ] || return 0
	ask mark "state $1"
	read -r begun _ </proc/uptime
	sed "s/^/@state $1 /" /sys/kernel/debug/ccp/state
	read -r ended _ </proc/uptime
	say took "$1" $((${ended%.*}${ended#*.}0 - ${begun%.*}${begun#*.}0))
	ask mark "told $1"
}

try() { say write "$1" "$2" "$(answer put "$2")"; }

files >/tmp/before
modprobe ccp || fail "ccp does not load"
show loaded
tell loaded
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
tell up
# "@abi MODE FILE": those of Documentation/ABI.
find /sys/kernel/snp_host /sys/kernel/ccp /sys/firmware/sev -type f | while read -r file; do
	say abi "$(stat -c %a "$file")" "$file"
done
if [ -e /sys/kernel/debug/ccp/state ]; then
	for file in /sys/kernel/debug/ccp/*; do say debugfs "$(stat -c %a "$file")" "${file##*/}"; done
	snp-launch keep >/tmp/launch 2>&1 &
	guest=$!
	for _ in $(seq 300); do
		grep -q "^@launch finish 0" /tmp/launch && break
		sleep 0.1
	done
	ask fault PLATFORM_STATUS@1:silent
	sev-ioctl platform-status >/tmp/status &
	status=$!
	for _ in $(seq 100); do
		ask pending && [ -n "$reply" ] && break
		sleep 0.1
	done
	tell hanging
	ask clear
	wait $status
	kill $guest
	wait $guest
	tell ended
fi
ask fault SNP_VERIFY_MITIGATION:status=0x16 || fail "the PSP takes no orders"
show refused
try refused 1
rmmod kvm_amd || fail "kvm_amd does not unload"
show stopped
tell stopped
ask fault start:allones || fail "the PSP takes no orders"
show gone
ask clear
rmmod ccp || fail "ccp does not unload"
show unloaded
modprobe ccp tio=1 no_such_parameter=1 || fail "ccp does not load with these parameters"
say tio "$(cat /sys/module/ccp/parameters/tio)"
rmmod ccp || fail "ccp does not unload"
