# SPDX-License-Identifier: GPL-2.0
# scripts/install on this machine, for which the cache of the machine outside has been copied to /root/.cache/ccp-rs:
# "@NAME STATUS LINE" for each try, with the last line that it said, and then where modprobe finds ccp.
. /vm/lib.sh
cache=/root/.cache/ccp-rs

try() { # NAME [ARGUMENT]
	name=$1
	shift
	bash /ccp-rs/scripts/install "$@" >/tmp/said 2>&1
	say "$name" $? "$(tail -n 1 /tmp/said)"
	sed 's/^/install: /' /tmp/said
	say ccp "$name" "$(modinfo_file ccp)"
}

# instead FILE TEXT NAME: the same with another text in that file of the cache.
instead() {
	cp $cache/"$1" /tmp/kept
	echo "$2" >$cache/"$1"
	try "$3"
	cp /tmp/kept $cache/"$1"
}

depmod
instead kernel-release 7.3.3+deb13-amd64 other-release
instead modules/.tree "0123456789012345678901234567890123456789 /somewhere" other-build
try plain
modprobe ccp || fail "what was installed does not load"
modules
rmmod ccp snp_host
try removed --remove
try removed-twice --remove

mount -t securityfs securityfs /sys/kernel/security
echo integrity >/sys/kernel/security/lockdown
try unsigned
insmod $cache/modules/snp_host.ko 2>&1 && fail "the kernel takes unsigned modules"
cp /signed/snp_host.ko $cache/modules
try half-signed
cp /signed/ccp.ko $cache/modules
try signed
try removed-signed --remove

# A kernel that insists on signatures without being locked down.
umount /sys/kernel/security
echo 1 >/sys/module/module/parameters/sig_enforce
try enforced-signed
cp /unsigned/ccp.ko $cache/modules
try enforced
