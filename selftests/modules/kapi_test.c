// SPDX-License-Identifier: GPL-2.0
/*
 * Calls what ccp exports to kvm-amd, with good and bad arguments, and logs each result as one line
 * "kapi: NAME RESULT". For test_kapi.py, which runs it on the in-tree driver and on ours.
 *
 * SNP must be initialised (kvm_amd loaded), so that legacy commands need their memory converted.
 */
#include <linux/crc32.h>
#include <linux/fs.h>
#include <linux/gfp.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/psp.h>
#include <linux/psp-sev.h>
#include <linux/slab.h>
#include <asm/sev.h>

/* What firmware status is before a call, to see whether it was written. */
#define UNTOUCHED 0x5555

static bool mismatches;
module_param(mismatches, bool, 0);
MODULE_PARM_DESC(mismatches, "also pass command buffers that do not fit (the in-tree driver warns with a call trace)");

static bool lose;
module_param(lose, bool, 0);
MODULE_PARM_DESC(lose,
		 "also lose pages to firmware, and free them (the in-tree driver would put a free page on a list)");

#define report(name, fmt, ...) pr_info("kapi: %s " fmt "\n", name, ##__VA_ARGS__)

static void get_id(void)
{
	struct sev_data_get_id query = {}, id = {};
	/* In the middle of a page, with neighbours that must not change. */
	u8 *page = kzalloc(PAGE_SIZE, GFP_KERNEL), *buf = page + 1000;
	int rc, error = UNTOUCHED;
	u64 address;

	if (!page)
		return;
	rc = sev_do_cmd(SEV_CMD_GET_ID, &query, &error);
	report("get-id-query", "%d %#x len %u", rc, error, query.len);

	memset(page, 0xa5, PAGE_SIZE);
	id.address = address = __psp_pa(buf);
	id.len = query.len;
	error = UNTOUCHED;
	rc = sev_do_cmd(SEV_CMD_GET_ID, &id, &error);
	report("get-id", "%d %#x len %u crc %08x", rc, error, id.len, crc32_le(0, buf, query.len));
	report("get-id-neighbours", "%s", memchr_inv(page, 0xa5, 1000) ||
	       memchr_inv(buf + query.len, 0xa5, PAGE_SIZE - 1000 - query.len) ? "changed" : "unchanged");
	report("get-id-address", "%s", id.address == address ? "the caller's" : "another");

	id.address = address;
	id.len = 8;
	rc = sev_do_cmd(SEV_CMD_GET_ID, &id, NULL);
	report("get-id-short", "%d len %u", rc, id.len);
	kfree(page);
}

static void pdh_cert_export(void)
{
	struct sev_data_pdh_cert_export export = {};
	u8 *pdh, *chain;
	int rc, error = UNTOUCHED;

	rc = sev_do_cmd(SEV_CMD_PDH_CERT_EXPORT, &export, &error);
	report("pdh-query", "%d %#x len %u %u", rc, error, export.pdh_cert_len, export.cert_chain_len);
	pdh = kzalloc(export.pdh_cert_len, GFP_KERNEL);
	chain = kzalloc(export.cert_chain_len, GFP_KERNEL);
	if (pdh && chain) {
		export.pdh_cert_address = __psp_pa(pdh);
		export.cert_chain_address = __psp_pa(chain);
		rc = sev_do_cmd(SEV_CMD_PDH_CERT_EXPORT, &export, &error);
		report("pdh", "%d %#x len %u %u crc %08x %08x", rc, error, export.pdh_cert_len,
		       export.cert_chain_len, crc32_le(0, pdh, export.pdh_cert_len),
		       crc32_le(0, chain, export.cert_chain_len));
	}
	kfree(pdh);
	kfree(chain);
}

/* Pages of a guest change hands for the command and are the host's again afterwards, whatever firmware says. */
static void guest_pages(void)
{
	struct page *pages = alloc_pages(GFP_KERNEL | __GFP_ZERO, 2);
	struct sev_data_launch_update_data update = { .handle = 0x7777 };
	int rc, error = UNTOUCHED, level;
	bool assigned = true;
	unsigned long i;

	if (!pages)
		return;
	update.address = __psp_pa(page_address(pages));
	update.len = 3 * PAGE_SIZE;
	rc = sev_do_cmd(SEV_CMD_LAUNCH_UPDATE_DATA, &update, &error);
	report("guest-pages", "%d %#x", rc, error);
	for (i = 0; i < 4; i++) {
		rc = snp_lookup_rmpentry(page_to_pfn(pages) + i, &assigned, &level);
		report("guest-page-after", "%lu %d %s", i, rc, assigned ? "assigned" : "shared");
	}
	if (!assigned)
		memset(page_address(pages), 1, 4 * PAGE_SIZE);
	__free_pages(pages, 2);
}

static void bounced_failure(void)
{
	struct sev_data_launch_measure measure = { .handle = 0x7777, .len = 48 };
	u8 *buf = kzalloc(48, GFP_KERNEL);
	int rc, error = UNTOUCHED;

	if (!buf)
		return;
	measure.address = __psp_pa(buf);
	rc = sev_do_cmd(SEV_CMD_LAUNCH_MEASURE, &measure, &error);
	report("launch-measure", "%d %#x", rc, error);
	kfree(buf);
}

static void firmware_pages(void)
{
	void *page = snp_alloc_firmware_page(GFP_KERNEL_ACCOUNT | __GFP_ZERO);
	struct page *plain = alloc_page(GFP_KERNEL);
	bool assigned = false;
	int rc, level;

	if (!page || !plain)
		return;
	rc = snp_lookup_rmpentry(__pa(page) >> PAGE_SHIFT, &assigned, &level);
	report("firmware-page", "%d %s", rc, assigned ? "assigned" : "shared");
	snp_free_firmware_page(page);
	rc = snp_lookup_rmpentry(__pa(page) >> PAGE_SHIFT, &assigned, &level);
	report("firmware-page-freed", "%d %s", rc, assigned ? "assigned" : "shared");
	snp_free_firmware_page(NULL);

	rc = rmp_make_private(page_to_pfn(plain), 0, PG_LEVEL_4K, 0, true);
	report("made-private", "%d", rc);
	rc = snp_reclaim_pages(page_to_pfn(plain) << PAGE_SHIFT, 1, false);
	report("reclaimed", "%d", rc);
	if (!rc)
		__free_page(plain);
}

static void files(void)
{
	struct sev_user_data_status status = {};
	const char *names[] = { "/dev/sev", "/dev/null" };
	int i, rc, error = UNTOUCHED;

	rc = sev_issue_cmd_external_user(NULL, SEV_CMD_PLATFORM_STATUS, &status, &error);
	report("no-file", "%d %#x", rc, error);
	for (i = 0; i < ARRAY_SIZE(names); i++) {
		struct file *file = filp_open(names[i], O_RDWR, 0);

		if (IS_ERR(file)) {
			report(names[i], "cannot be opened %ld", PTR_ERR(file));
			continue;
		}
		error = UNTOUCHED;
		rc = sev_issue_cmd_external_user(file, SEV_CMD_PLATFORM_STATUS, &status, &error);
		report(names[i], "%d %#x state %u", rc, error, status.state);
		filp_close(file, NULL);
	}
}

static void platform(void)
{
	struct sev_platform_init_args args = { .error = UNTOUCHED };
	struct sev_user_data_status status = {};
	struct sev_data_activate activate = { .handle = 0x7777, .asid = 60 };
	struct sev_data_deactivate deactivate = { .handle = 0x7777 };
	struct sev_data_decommission decommission = { .handle = 0x7777 };
	int rc, error = UNTOUCHED;

	rc = sev_platform_init(&args);
	report("init-again", "%d", rc);
	rc = sev_platform_status(&status, NULL);
	report("platform-status", "%d state %u", rc, status.state);
	rc = sev_guest_activate(&activate, &error);
	report("activate", "%d %#x", rc, error);
	rc = sev_guest_deactivate(&deactivate, NULL);
	report("deactivate", "%d", rc);
	rc = sev_guest_decommission(&decommission, NULL);
	report("decommission", "%d", rc);
	report("policy-bits", "%#llx", sev_get_snp_policy_bits());
	report("ciphertext-hiding", "%d", sev_is_snp_ciphertext_hiding_supported());
	report("blob-null", "%ld", PTR_ERR(psp_copy_user_blob(0, 16)));
	report("blob-empty", "%ld", PTR_ERR(psp_copy_user_blob(0x1000, 0)));
	report("blob-huge", "%ld", PTR_ERR(psp_copy_user_blob(0x1000, 0x4001)));
}

/*
 * Pages that firmware does not give back are freed by their owner all the same: a page, which is lost twice, and
 * a part of a compound one.
 */
static void lost_pages(void)
{
	struct page *single = alloc_page(GFP_KERNEL), *compound = alloc_pages(GFP_KERNEL | __GFP_COMP, 2);
	int rc;

	if (!single || !compound)
		return;
	rc = snp_reclaim_pages(page_to_pfn(single) << PAGE_SHIFT, 1, false);
	report("lost", "%d", rc);
	rc = snp_reclaim_pages(page_to_pfn(single) << PAGE_SHIFT, 1, false);
	report("lost-again", "%d", rc);
	rc = snp_reclaim_pages((page_to_pfn(compound) + 2) << PAGE_SHIFT, 2, false);
	report("lost-parts", "%d", rc);
	__free_page(single);
	__free_pages(compound, 2);
	report("lost-page", "%s", page_ref_count(single) == 1 ? "kept" : "free");
	report("lost-compound", "%s", page_ref_count(compound) == 2 ? "kept" : "free");
}

static void bad_buffers(void)
{
	u8 buf[64] = {};
	int error = UNTOUCHED;
	int rc;

	rc = sev_do_cmd(SEV_CMD_PLATFORM_STATUS, NULL, &error);
	report("missing-buffer", "%d %#x", rc, error);
	rc = sev_do_cmd(SEV_CMD_DF_FLUSH, buf, &error);
	report("needless-buffer", "%d %#x", rc, error);
	rc = sev_do_cmd(SEV_CMD_MAX + 0x100, buf, &error);
	report("unknown-command", "%d %#x", rc, error);
	rc = sev_do_cmd(0x10004, buf, &error);
	report("truncated-command", "%d %#x", rc, error);
	rc = sev_do_cmd(SEV_CMD_SHUTDOWN, NULL, &error);
	report("life-cycle-command", "%d %#x", rc, error);
	snp_free_firmware_page(buf);
	report("foreign-page", "0");
}

static int __init kapi_test_init(void)
{
	get_id();
	pdh_cert_export();
	guest_pages();
	bounced_failure();
	firmware_pages();
	files();
	platform();
	if (mismatches)
		bad_buffers();
	if (lose)
		lost_pages();
	report("end", "0");
	return 0;
}
module_init(kapi_test_init);

static void __exit kapi_test_exit(void)
{
}
module_exit(kapi_test_exit);

MODULE_DESCRIPTION("Calls the functions that ccp exports");
MODULE_LICENSE("GPL");
