// SPDX-License-Identifier: GPL-2.0
/*
 * Prints what the kernel's psp-sev.h says, one fact per line:
 *
 *   cmd NAME ID LENGTH           a command, its number, the size of its buffer
 *   field NAME ADDRESS LENGTH    offsets of a pair behind which firmware writes, in that command's buffer
 *   wide NAME FIELD OFFSET       a 64-bit field of that command's buffer
 *   bytes NAME HEX               a structure with a distinct value in every field
 *   value NAME HEX               a constant
 *
 * COMMANDS_INC is made by build.rs from the in-tree driver's own tables and from the header.
 */
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include PSP_SEV_H

#define CMD(name, type) printf("cmd %s %#x %zu\n", #name, SEV_CMD_##name, sizeof(struct type))
/* What the header has a number for, and no structure that anybody uses: that of the patches on the kernel's list. */
struct download_firmware_ex {
	u32 length, reserved;
	u64 fw_paddr;
	u32 fw_len;
	u32 commit:1;
	u32 rsvd2:31;
} __packed;

#define CMD_NODATA(name) printf("cmd %s %#x 0\n", #name, SEV_CMD_##name)
#define FIELD(name, type, addr, len) \
	printf("field %s %zu %zu\n", #name, offsetof(struct type, addr), offsetof(struct type, len))
#define WIDE(name, type, field) printf("wide %s %s %zu\n", #name, #field, offsetof(struct type, field))
#define VALUE(name, value) printf("value %s %#llx\n", #name, (unsigned long long)(value))

static void bytes(const char *name, const void *data, size_t len)
{
	printf("bytes %s ", name);
	for (size_t i = 0; i < len; i++)
		printf("%02x", ((const unsigned char *)data)[i]);
	printf("\n");
}
#define BYTES(name, type, ...) \
	do { struct type s = { __VA_ARGS__ }; bytes(#name, &s, sizeof(s)); } while (0)

static void commands(void)
{
	CMD_NODATA(SHUTDOWN);
	CMD_NODATA(FACTORY_RESET);
	CMD_NODATA(PEK_GEN);
	CMD_NODATA(PDH_GEN);
	CMD_NODATA(DF_FLUSH);
	CMD_NODATA(SNP_INIT);
	CMD_NODATA(SNP_DF_FLUSH);
	CMD(SNP_DOWNLOAD_FIRMWARE_EX, download_firmware_ex);
#include COMMANDS_INC
}

static void structures(void)
{
	BYTES(Init, sev_data_init, .flags = SEV_INIT_FLAGS_SEV_ES, .tmr_address = 0x1122334455667788,
	      .tmr_len = 0x99aabbcc);
	BYTES(InitEx, sev_data_init_ex, .length = sizeof(struct sev_data_init_ex),
	      .flags = SEV_INIT_FLAGS_SEV_ES, .tmr_address = 0x1122334455667788, .tmr_len = 0x99aabbcc,
	      .nv_address = 0x0102030405060708, .nv_len = 0x0d0e0f10);
	BYTES(PlatformStatus, sev_user_data_status, .api_major = 0x12, .api_minor = 0x34,
	      .state = SEV_STATE_WORKING, .flags = 0x55667788, .build = 0x9a, .guest_count = 0xbcdef012);
	BYTES(OutBuffer, sev_data_get_id, .address = 0x1122334455667788, .len = 0x99aabbcc);
	BYTES(PekCertImport, sev_data_pek_cert_import, .pek_cert_address = 0x1122334455667788,
	      .pek_cert_len = 0x99aabbcc, .oca_cert_address = 0x0102030405060708, .oca_cert_len = 0x0d0e0f10);
	BYTES(PdhCertExport, sev_data_pdh_cert_export, .pdh_cert_address = 0x1122334455667788,
	      .pdh_cert_len = 0x99aabbcc, .cert_chain_address = 0x0102030405060708,
	      .cert_chain_len = 0x0d0e0f10);
	BYTES(DownloadFirmware, sev_data_download_firmware, .address = 0x1122334455667788, .len = 0x99aabbcc);
	BYTES(Addr, sev_data_snp_addr, .address = 0x1122334455667788);
	BYTES(SnpStatus, sev_user_data_snp_status, .api_major = 0x12, .api_minor = 0x34, .state = 1,
	      .is_rmp_initialized = 1, .build_id = 0x55667788, .feature_info = 1,
	      .ciphertext_hiding_cap = 1, .guest_count = 0xbcdef012,
	      .current_tcb_version = 0x1122334455667788, .reported_tcb_version = 0x0102030405060708);
	BYTES(FeatureInfoRequest, sev_data_snp_feature_info,
	      .length = sizeof(struct sev_data_snp_feature_info), .ecx_in = 0x11223344,
	      .feature_info_paddr = 0x0102030405060708);
	BYTES(FeatureInfo, snp_feature_info, .eax = 0x11223344, .ebx = 0x55667788, .ecx = 0x99aabbcc,
	      .edx = 0xddeeff00);
	BYTES(SnpInitEx, sev_data_snp_init_ex, .init_rmp = 1, .list_paddr_en = 1,
	      .ciphertext_hiding_en = 1, .list_paddr = 0x0102030405060708, .max_snp_asid = 0x1122);
	BYTES(Range, sev_data_range, .base = 0x0102030405060708, .page_count = 0x11223344);
	BYTES(RangeListHeader, sev_data_range_list, .num_elements = 0x11223344);
	BYTES(SnpShutdownEx, sev_data_snp_shutdown_ex, .len = sizeof(struct sev_data_snp_shutdown_ex),
	      .iommu_snp_shutdown = 1, .x86_snp_shutdown = 1);
	BYTES(PageReclaim, sev_data_snp_page_reclaim, .paddr = 0x1122334455667000);
	BYTES(SnpConfig, sev_user_data_snp_config, .reported_tcb = 0x1122334455667788, .mask_chip_id = 1,
	      .mask_chip_key = 1);
	BYTES(DownloadFirmwareEx, download_firmware_ex, .length = sizeof(struct download_firmware_ex),
	      .fw_paddr = 0x1122334455667788, .fw_len = 0x99aabbcc, .commit = 1);
	BYTES(GuestStatus, sev_data_snp_guest_status, .gctx_paddr = 0x1122334455667788,
	      .address = 0x0102030405060708);
	BYTES(SnpCommit, sev_data_snp_commit, .len = sizeof(struct sev_data_snp_commit));
	BYTES(VlekLoad, sev_user_data_snp_vlek_load, .len = sizeof(struct sev_user_data_snp_vlek_load),
	      .vlek_wrapped_version = 0x12, .vlek_wrapped_address = 0x0102030405060708);
	BYTES(VerifyMitigation, sev_data_snp_verify_mitigation,
	      .length = sizeof(struct sev_data_snp_verify_mitigation),
	      .subcommand = SNP_MIT_SUBCMD_REQ_VERIFY, .vector = 0x1122334455667788, .dst_paddr_en = 1,
	      .dst_paddr = 0x0102030405060708);
	BYTES(Mitigations, sev_data_snp_verify_mitigation_dst, .mit_verified_vector = 0x1122334455667788,
	      .mit_supported_vector = 0x0102030405060708, .mit_failure_status = 0x99aabbcc);
	BYTES(TcbMilanGenoa, sev_snp_tcb_version_genoa_milan, .snp = 0x5a);
	BYTES(TcbTurin, sev_snp_tcb_version_turin, .snp = 0x5a);
}

static void constants(void)
{
	VALUE(X86Shutdown, SNP_X86_SHUTDOWN_SUPPORTED);
	VALUE(VerifyMitigation, SNP_VERIFY_MITIGATION_SUPPORTED);
	VALUE(MITIGATION_STATUS, SNP_MIT_SUBCMD_REQ_STATUS);
	VALUE(RaplDisable, SNP_RAPL_DISABLE_SUPPORTED);
	VALUE(CiphertextHiding, SNP_CIPHER_TEXT_HIDING_SUPPORTED);
	VALUE(Aes256XtsPolicy, SNP_AES_256_XTS_POLICY_SUPPORTED);
	VALUE(CxlAllowPolicy, SNP_CXL_ALLOW_POLICY_SUPPORTED);
	VALUE(POLICY_BASE, SNP_POLICY_MASK_BASE);
	VALUE(POLICY_CXL_ALLOW, SNP_POLICY_MASK_CXL_ALLOW);
	VALUE(POLICY_AES_256_XTS, SNP_POLICY_MASK_MEM_AES_256_XTS);
	VALUE(POLICY_RAPL_DIS, SNP_POLICY_MASK_RAPL_DIS);
	VALUE(POLICY_CIPHERTEXT_HIDING, SNP_POLICY_MASK_CIPHERTEXT_HIDING_DRAM);
	VALUE(POLICY_PAGE_SWAP_DISABLE, SNP_POLICY_MASK_PAGE_SWAP_DISABLE);
}

int main(void)
{
	commands();
	structures();
	constants();
	return 0;
}
