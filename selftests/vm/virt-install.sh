# SPDX-License-Identifier: GPL-2.0
# virt-install.sh: in a Debian with libvirt, an SNP guest as people make them, OVMF alone. Prints its loader, and what
# it says on its serial port.
log=/var/log/libvirt/installed.log
virt-install --name installed --memory 512 --vcpus 1 --machine q35 --osinfo generic --boot firmware=efi \
	--launchSecurity sev-snp,policy=0x30000 --cpu host-passthrough --disk none --network none --graphics none \
	--memballoon none --install no_install=yes --serial file,path=$log --noautoconsole ||
	{ cat /var/log/libvirt/qemu/installed.log && exit 4; }
for _ in $(seq 150); do
	grep -aq 'Shell>' $log && break
	sleep 1
done
virsh dumpxml installed | grep '<loader\|<launchSecurity'
virsh destroy installed
grep -ao 'Shell>' $log | sed 's/^/installed: /'
