# SPDX-License-Identifier: GPL-2.0
# packaging/debian/fallback where there is nothing to do, and where the kernel refuses our modules: "@said NAME LINE"
# for what it says, then "@loaded NAME MODULE…" and "@snp NAME Y|N".
. /vm/lib.sh

try() {
	bash /fallback >/tmp/said 2>&1 || fail "it fails: $(cat /tmp/said)"
	sed "s/^/@said $1 /" /tmp/said
	say loaded "$1" "$(cut -d ' ' -f 1 /proc/modules | grep -x 'ccp\|snp_host\|kvm_amd' | sort | tr '\n' ' ')"
	say snp "$1" "$(cat /sys/module/kvm_amd/parameters/sev_snp 2>/dev/null)"
}

mkdir -p /etc/modprobe.d
# Nobody has loaded it yet, and then somebody has.
try taken
try loaded
rmmod ccp snp_host
# By its place: the depmod of busybox makes no index that kmod reads.
mv "/lib/modules/$(uname -r)/updates" /tmp/
/usr/bin/depmod
try without
mv /tmp/updates "/lib/modules/$(uname -r)/"
/usr/bin/depmod

# Signatures would not do: in this machine the kernel's own modules have none.
echo "no module" >"/lib/modules/$(uname -r)/updates/snp_host.ko"
modprobe kvm_amd && fail "the kernel takes anything"
echo blacklist kvm_amd >/etc/modprobe.d/kvm-amd.conf
try blacklisted
rmmod ccp
echo options ccp psp_probe_timeout=7 >/etc/modprobe.d/kvm-amd.conf
try refused
say option "$(cat /sys/module/ccp/parameters/psp_probe_timeout)"
try again
