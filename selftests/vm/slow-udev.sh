# SPDX-License-Identifier: GPL-2.0
# slow-udev.sh HOW SECONDS: SNP_INIT takes longer than udev waits for an event, which is SECONDS here.
#   udev      kvm_amd is loaded by udev, which sees that there are CPUs
#   unit      as Documentation/installing.md says: udev may not, and what the unit starts loads it
. /vm/lib.sh

export SYSTEMD_LOG_TARGET=console
mkdir -p /run/udev /etc/modprobe.d
[ "$1" = udev ] || cp /host/kvm-amd.conf /etc/modprobe.d/
systemd-udevd --event-timeout="$2" >/tmp/udevd 2>&1 &
udevd=$!
for _ in $(seq 100); do
	[ -e /run/udev/control ] && break
	sleep 0.1
done
udevadm trigger --action=add --subsystem-match=cpu || fail "udev does not listen"
if [ "$1" = unit ]; then
	udevadm settle --timeout=60 || fail "udev does not come to an end"
	[ -d /sys/module/kvm_amd ] && say early kvm_amd
	# The command of the unit, without the limit that the unit takes away.
	sh -c "$(sed -n 's/^ExecStart=//p' /host/kvm-amd.service)" || fail "kvm_amd does not load"
else
	for _ in $(seq 100); do
		ask pending && [ -n "$reply" ] && break
		sleep 0.1
	done
	say pending "$reply"
	udevadm settle --timeout=600 || fail "udev does not come to an end"
fi
sed 's/^/@udevd /' /tmp/udevd
if [ -d /sys/module/kvm_amd ]; then
	say snp "$(cat /sys/module/kvm_amd/parameters/sev_snp)"
else
	say snp "not loaded"
fi
say state "$(cat /sys/kernel/snp_host/state)"
# What an administrator does then.
modprobe kvm_amd
say snp "$(cat /sys/module/kvm_amd/parameters/sev_snp)"
kill $udevd
wait $udevd
unload
