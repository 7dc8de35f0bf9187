// SPDX-License-Identifier: GPL-2.0
/*
 * Calls of what ccp exports for services beside SEV, as amdtee and drivers of devices behind the PSP make
 * them. A line each, "services: NAME RESULT …".
 *
 *   parts=tee       the TEE's functions, with good and bad arguments
 *   parts=crowd     40 tasks with a command for the TEE at once, 8 more than the ring has entries
 *   parts=message   one message of platform access, and wrong ones
 *   parts=doorbell  the doorbell, once
 *   parts=status    what is there
 */
#include <linux/completion.h>
#include <linux/kthread.h>
#include <linux/module.h>
#include <linux/psp-platform-access.h>
#include <linux/psp-tee.h>
#include <linux/slab.h>

static char *parts = "status";
module_param(parts, charp, 0444);

/* A command of the TEE that no environment has, and one that needs nothing: to unmap what is not mapped. */
#define UNKNOWN 0x30
#define CROWD 40

struct request {
	struct psp_req_buffer_hdr header;
	u32 data[2];
} __packed;

static atomic_t done;
static DECLARE_COMPLETION(all);

static void status(void)
{
	pr_info("services: tee-status %d\n", psp_check_tee_status());
	pr_info("services: platform-access-status %d\n", psp_check_platform_access_status());
}

static void command(const char *name, int number, void *buffer, size_t len)
{
	u32 answer = 0x5555;
	int result = psp_tee_process_cmd(number, buffer, len, &answer);

	pr_info("services: tee-%s %d %#x\n", name, result, answer);
}

static void tee(void)
{
	u8 *buffer = kzalloc(2048, GFP_KERNEL);

	if (!buffer)
		return;
	command("null-buffer", UNKNOWN, NULL, 4);
	pr_info("services: tee-null-status %d\n", psp_tee_process_cmd(UNKNOWN, buffer, 4, NULL));
	command("empty", UNKNOWN, buffer, 0);
	command("too-long", UNKNOWN, buffer, 989);
	command("longest", UNKNOWN, buffer, 988);
	command("unmap", TEE_CMD_ID_UNMAP_SHARED_MEM, buffer, 4);
	kfree(buffer);
}

static int member(void *data)
{
	u32 buffer = 0, answer = 0;
	int result = psp_tee_process_cmd(TEE_CMD_ID_UNMAP_SHARED_MEM, &buffer, sizeof(buffer), &answer);

	if (result || answer != 0xffff0008)
		pr_info("services: crowd-member %d %#x\n", result, answer);
	if (atomic_inc_return(&done) == CROWD)
		complete(&all);
	return 0;
}

static void crowd(void)
{
	int n, started = 0;

	atomic_set(&done, 0);
	for (n = 0; n < CROWD; n++)
		started += !IS_ERR(kthread_run(member, NULL, "tee-%d", n));
	if (started == CROWD)
		wait_for_completion(&all);
	pr_info("services: crowd %d\n", started);
}

static void message(const char *name, int number, u32 size)
{
	struct request *request = kzalloc(sizeof(*request), GFP_KERNEL);
	int result;

	if (!request)
		return;
	request->header.payload_size = size;
	request->data[1] = 0x12345678;
	result = psp_send_platform_access_msg(number, (struct psp_request *)request);
	pr_info("services: message-%s %d %#x %#x %#x %#x\n", name, result, request->header.payload_size,
		request->header.status, request->data[0], request->data[1]);
	kfree(request);
}

static void messages(void)
{
	message("good", PSP_CMD_HSTI_QUERY, 12);
	message("wrong-size", PSP_CMD_HSTI_QUERY, 16);
	message("unknown", 0x7f, 12);
}

static void doorbell(void)
{
	u32 result = 0x5555;
	int rung = psp_ring_platform_doorbell(0x42, &result);

	pr_info("services: doorbell %d %#x\n", rung, result);
	pr_info("services: doorbell-without-result %d\n", psp_ring_platform_doorbell(0x42, NULL));
}

static int __init services_test_init(void)
{
	if (!strcmp(parts, "status"))
		status();
	else if (!strcmp(parts, "tee"))
		tee();
	else if (!strcmp(parts, "crowd"))
		crowd();
	else if (!strcmp(parts, "message"))
		messages();
	else if (!strcmp(parts, "doorbell"))
		doorbell();
	else
		return -EINVAL;
	pr_info("services: end 0\n");
	return 0;
}
module_init(services_test_init);

static void __exit services_test_exit(void)
{
}
module_exit(services_test_exit);

MODULE_DESCRIPTION("Calls what ccp exports for services beside SEV");
MODULE_LICENSE("GPL");
