# SPDX-License-Identifier: GPL-2.0
# slow-init.sh SECONDS: with that psp_cmd_timeout, SNP_INIT takes longer than the hung-task detector
# is patient. Two programs wait for their turn meanwhile; one of them is killed.
. /vm/lib.sh

# How long a task may sleep without a word is the kernel's own choice; when it looks is not.
say patience "$(cat /proc/sys/kernel/hung_task_timeout_secs)"
echo 5 >/proc/sys/kernel/hung_task_check_interval_secs

modprobe ccp psp_cmd_timeout="$1" || fail "ccp does not load"
modprobe kvm_amd &
loader=$!
for _ in $(seq 100); do
	ask pending && [ -n "$reply" ] && break
	sleep 0.1
done
say pending "$reply"
sev-ioctl platform-status >/tmp/patient &
patient=$!
sev-ioctl platform-status >/tmp/killed &
killed=$!
sleep 130
kill -9 $killed
sleep 1
[ -d /proc/$killed ] && say killed waits || say killed gone
ask pending
say pending "$reply"
wait $loader || fail "kvm_amd does not load"
wait $patient
say snp "$(cat /sys/module/kvm_amd/parameters/sev_snp)"
say patient "$(cat /tmp/patient)"
unload
