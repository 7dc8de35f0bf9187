// SPDX-License-Identifier: GPL-2.0
/*
 * Begin to launch a plain SEV guest, as far as firmware's first command for it. With an argument the guest
 * stays until this process is killed.
 */
#include <unistd.h>
#include "launch.h"

int main(int argc, char **argv)
{
	struct kvm_sev_launch_start start = { 0 };

	create_vm(KVM_X86_SEV_VM);
	issue("start", KVM_SEV_LAUNCH_START, &start);
	(void)argv;
	if (argc > 1)
		pause();
	return 0;
}
