# SPDX-License-Identifier: GPL-2.0
# The packages on a host with Secure Boot (selftests/test_secure_boot.py). $1: "restart", or "reload" the modules.
. /root/debian-lib.sh
step=${step:?}

look
say secure "$(mokutil --sb-state)"
say lockdown "$(cat /sys/kernel/security/lockdown)"
if [ "$step" = install ]; then
	try apt apt-get install -y --no-install-recommends /root/ours/*.deb
	[ "$1" = reload ] || go_on installed systemctl reboot
	rmmod kvm_amd ccp
	try modprobe modprobe kvm_amd
	step=installed
	look
fi
try check ccp-host-check
journalctl --sync
lines='ccp|snp_host|integrity: Load|Loading of module|Lockdown: |there is no ccp|this kernel'
journal 0 installed -g "^($lines)"
