# SPDX-License-Identifier: GPL-2.0
# completion-wait.sh: with SNP up, have the kernel tell the IOMMU of another domain for each device,
# three times; the second time the IOMMU does not say that it has got as far as that. Prints "@waits
# WHEN NUMBER": how many waits have been in vain so far.
. /vm/lib.sh

tell() {
	for group in /sys/kernel/iommu_groups/*; do
		case $(cat "$group/type") in DMA) type=DMA-FQ ;; *) type=DMA ;; esac
		echo $type >"$group/type" || fail "the domain of $group cannot be changed"
	done
	say waits "$1" "$(dmesg | grep -c 'Completion-Wait loop timed out')"
}

modprobe kvm_amd || fail "kvm_amd does not load"
tell before
ask no-completion-wait on || fail "the PSP takes no orders"
tell silent
ask no-completion-wait off
tell after
unload
