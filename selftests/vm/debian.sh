# SPDX-License-Identifier: GPL-2.0
# A host's life with the packages (selftests/test_debian.py), from one start to the next. $1: the release of the kernel
# with modules of ours, $2: of one without.
. /root/debian-lib.sh
step=${step:?}
own=$1 other=$2

look
case $step in
install)
	# As initramfs-tools do of themselves with MODULES=most for disks and network, and dracut for what is loaded.
	echo ccp >>/etc/initramfs-tools/modules
	try apt apt-get install -y --no-install-recommends /root/ours/*.deb
	go_on installed systemctl reboot
	;;
installed)
	try guest sh /root/libvirt-guest.sh
	try hotplug chcpu --disable 1
	try suspend systemctl start systemd-suspend.service
	try kernel apt-get install -y --no-install-recommends /root/kernel/*.deb
	go_on kexec kexec_to "$own"
	;;
kexec)
	go_on other kexec_to "$other"
	;;
other)
	try purge apt-get purge -y ccp-rs-modules "ccp-rs-modules-$own" ccp-rs-tools
	go_on removed systemctl reboot
	;;
removed)
	try hotplug sh -c 'chcpu --disable 1 && chcpu --enable 1'
	journals install installed kexec other removed
	;;
esac
