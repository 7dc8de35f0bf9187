# SPDX-License-Identifier: GPL-2.0
# Unattended upgrades of kernel and modules (selftests/test_upgrade.py), from one start to the next, and the way back.
# $1: the release that the host has first, $2: the newer one that the archive has later. /root/archive is the archive,
# /root/later what of it is different then.
. /root/debian-lib.sh
step=${step:?}
older=$1 newer=$2

# packed WHEN: "@WHEN-RELEASE START FILE…" for the ccp in each initramfs.
packed() {
	for image in /boot/initrd.img-*; do
		release=${image#*/initrd.img-}
		say "$1-$release" "$(lsinitramfs "$image" | sed -n "s|.*/$release/\(.*/ccp\.ko.*\)|\1|p" | xargs)"
	done
}

# untouched WHEN: what nobody is to touch: the modules, what firmware has been asked, and since when SNP is up.
untouched() {
	say "$1-modules" "$(grep -E '^(ccp|snp_host|kvm_amd) ' /proc/modules | cut -d ' ' -f 1,6 | xargs)"
	say "$1-commands" "$(ccp-metrics | sed -n 's/^ccp_rs_commands_total //p')"
	say "$1-since" $(($(cut -d . -f 1 /proc/uptime) - $(cat /sys/kernel/snp_host/open_seconds)))
}

look
case $step in
install)
	echo ccp >>/etc/initramfs-tools/modules
	rm -rf /etc/apt/sources.list /etc/apt/sources.list.d/*
	echo 'deb [trusted=yes] file:/root/archive ./' >/etc/apt/sources.list
	cat >/etc/apt/apt.conf.d/60this-host <<-'END'
		APT::Periodic::Update-Package-Lists "1";
		APT::Periodic::Unattended-Upgrade "1";
		Unattended-Upgrade::Origins-Pattern { "origin=this host's"; };
	END
	try update apt-get update
	try apt apt-get install -y --no-install-recommends linux-image-amd64 ccp-rs-modules ccp-rs-tools \
		unattended-upgrades needrestart
	go_on old kexec_to "$older"
	;;
old)
	# So that this is a host which has never had the newer kernel.
	try purge apt-get purge -y "linux-image-$newer" "linux-base-$newer" "linux-binary-$newer" "linux-modules-$newer"
	try before needrestart -b -k
	packed before
	cp /root/later/* /root/archive/
	untouched before
	# As their timers do.
	try lists systemctl start apt-daily.service
	try upgrade systemctl start apt-daily-upgrade.service
	untouched after
	try told cat /var/log/unattended-upgrades/unattended-upgrades.log
	try dpkg cat /var/log/unattended-upgrades/unattended-upgrades-dpkg.log
	try pending needrestart -b
	try unused apt-get autoremove -y
	try required cat /run/reboot-required.pkgs
	packed after
	go_on new systemctl reboot
	;;
new)
	try pending needrestart -b -k
	# For one start, the older one of GRUB's menu.
	entry=$(sed -n "s/.*'\(gnulinux-$older-advanced-[^']*\)'.*/\1/p" /boot/grub/grub.cfg)
	try chosen grub-reboot "gnulinux-advanced-${entry##*-advanced-}>$entry"
	go_on back systemctl reboot
	;;
back)
	# For good.
	try remove apt-get remove -y "linux-base-$newer"
	try unused apt-get autoremove -y
	say packages "$(dpkg-query -W -f '${db:Status-Status} ${Package}\n' 'ccp-rs-modules*' |
		sed -n 's/^installed //p' | xargs)"
	packed kept
	go_on kept systemctl reboot
	;;
kept)
	journals install old new back kept
	;;
esac
