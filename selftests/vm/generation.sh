# SPDX-License-Identifier: GPL-2.0
# generation.sh [NAME]: what software sees of a generation of processors: "@cpu FAMILY MODEL STEPPING", "@host NAME
# LINE" of snphost, the launch of a guest whose policy forbids SMT; and NAME attests (/guest).
. /vm/lib.sh

modprobe msr || fail "msr does not load"
modprobe kvm_amd || fail "kvm_amd does not load"
say cpu "$(sed -n '/^cpu family/p; /^model\t/p; /^stepping/p; /^$/q' /proc/cpuinfo | sed 's/.*: //' | xargs)"
for what in identifier tcb vcek-url; do
	snphost show $what >/tmp/out 2>&1 || say wrong $what
	sed "s/^/@host $what /" /tmp/out
done
snphost ok >/tmp/out 2>&1 || say wrong ok
grep FAIL /tmp/out | sed 's/^/@wrong /'
snp-launch no-smt
[ -z "${1:-}" ] || boot_attesting "$1"
unload
