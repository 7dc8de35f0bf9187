# SPDX-License-Identifier: GPL-2.0
# libvirt starts the guest of /root/libvirt-guest.xml and waits until it says something. Runs in a whole Debian.
virsh domcapabilities | grep -A9 '<sev\|launchSecurity'
virsh define /root/libvirt-guest.xml && virsh start snp || { cat /var/log/libvirt/qemu/snp.log; exit 3; }
for _ in $(seq 150); do
	grep -aq 'Shell>' /var/log/libvirt/guest.log && break
	sleep 1
done
virsh list
virsh dumpxml snp | grep -A4 '<launchSecurity'
virsh destroy snp
tail -c 200 /var/log/libvirt/guest.log
