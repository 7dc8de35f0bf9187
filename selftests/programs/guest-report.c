// SPDX-License-Identifier: GPL-2.0
/*
 * Inside an SNP guest, ask for a report in each of these versions of the message: guest-report VERSION…
 * Prints "report VERSION ERRNO FIRMWARE'S-ERROR" for each, 0 0 for a report.
 */
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/sev-guest.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>

int main(int argc, char **argv)
{
	int guest = open("/dev/sev-guest", O_RDWR);

	if (guest < 0)
		err(1, "/dev/sev-guest");
	for (int n = 1; n < argc; n++) {
		struct snp_report_req request = {};
		struct snp_report_resp response = {};
		struct snp_guest_request_ioctl call = {
			.msg_version = atoi(argv[n]),
			.req_data = (__u64)&request,
			.resp_data = (__u64)&response,
		};
		int failed = ioctl(guest, SNP_GET_REPORT, &call);

		printf("report %s %d %#x\n", argv[n], failed ? errno : 0, call.fw_error);
	}
	return 0;
}
