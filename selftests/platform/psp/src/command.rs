// SPDX-License-Identifier: GPL-2.0
//! The commands: ids, names, buffer lengths, handlers. The only place that has them.

use crate::call::Call;
use crate::sev::abi as legacy;
use crate::snp::abi;
use crate::{firmware, sev, snp, Psp, Status};

pub(crate) type Handler = fn(&mut Psp, &mut Call<'_>) -> Result<(), Status>;

pub(crate) struct Command {
    id: u32,
    pub(crate) name: &'static str,
    /// Bytes of the command buffer (the packed structures of psp-sev.h); 0 for none.
    pub(crate) len: u32,
    /// Whether firmware writes into the command buffer.
    pub(crate) answers: bool,
    pub(crate) run: Handler,
}

const fn reads(id: u32, name: &'static str, len: u32, run: Handler) -> Command {
    Command { id, name, len, answers: false, run }
}

const fn answers(id: u32, name: &'static str, len: u32, run: Handler) -> Command {
    Command { id, name, len, answers: true, run }
}

/// Bytes of a command buffer.
const fn len<T>() -> u32 {
    size_of::<T>() as u32
}

/// The one that firmware which does not work takes.
const DOWNLOAD_FIRMWARE_EX: u32 = 0xca;

/// Every command that is modelled, by id.
pub(crate) const COMMANDS: &[Command] = &[
    reads(0x01, "INIT", len::<legacy::Init>(), sev::platform::init),
    reads(0x02, "SHUTDOWN", 0, sev::platform::shutdown),
    reads(0x03, "FACTORY_RESET", 0, sev::platform::factory_reset),
    answers(0x04, "PLATFORM_STATUS", len::<legacy::PlatformStatus>(), sev::platform::status),
    reads(0x05, "PEK_GEN", 0, sev::keys::pek_gen),
    answers(0x06, "PEK_CSR", len::<legacy::Place>(), sev::keys::pek_csr),
    reads(0x07, "PEK_CERT_IMPORT", len::<legacy::PekCertImport>(), sev::keys::pek_cert_import),
    answers(0x08, "PDH_CERT_EXPORT", len::<legacy::PdhCertExport>(), sev::keys::pdh_cert_export),
    reads(0x09, "PDH_GEN", 0, sev::keys::pdh_gen),
    reads(0x0a, "DF_FLUSH", 0, sev::platform::df_flush),
    reads(0x0b, "DOWNLOAD_FIRMWARE", len::<firmware::Download>(), firmware::download),
    answers(0x0c, "GET_ID", len::<legacy::Place>(), sev::keys::get_id),
    reads(0x0d, "INIT_EX", len::<legacy::InitEx>(), sev::platform::init_ex),
    reads(0x20, "DECOMMISSION", len::<legacy::Handle>(), sev::guest::decommission),
    reads(0x21, "ACTIVATE", len::<legacy::Activate>(), sev::guest::activate),
    reads(0x22, "DEACTIVATE", len::<legacy::Handle>(), sev::guest::deactivate),
    answers(0x23, "GUEST_STATUS", len::<legacy::GuestStatus>(), sev::guest::status),
    reads(0x25, "ACTIVATE_EX", len::<legacy::ActivateEx>(), sev::guest::activate_ex),
    answers(0x30, "LAUNCH_START", len::<legacy::Start>(), sev::launch::start),
    reads(0x31, "LAUNCH_UPDATE_DATA", len::<legacy::Launch>(), sev::launch::update_data),
    reads(0x32, "LAUNCH_UPDATE_VMSA", len::<legacy::Launch>(), sev::launch::update_vmsa),
    answers(0x33, "LAUNCH_MEASURE", len::<legacy::Launch>(), sev::launch::measure),
    reads(0x34, "LAUNCH_UPDATE_SECRET", len::<legacy::Packet>(), sev::launch::update_secret),
    reads(0x35, "LAUNCH_FINISH", len::<legacy::Handle>(), sev::launch::finish),
    answers(
        0x36,
        "ATTESTATION_REPORT",
        len::<legacy::AttestationReport>(),
        sev::launch::attestation_report,
    ),
    answers(0x40, "SEND_START", len::<legacy::SendStart>(), sev::migration::send_start),
    answers(0x41, "SEND_UPDATE_DATA", len::<legacy::Packet>(), sev::migration::send_data),
    answers(0x42, "SEND_UPDATE_VMSA", len::<legacy::Packet>(), sev::migration::send_vmsa),
    reads(0x43, "SEND_FINISH", len::<legacy::Handle>(), sev::migration::send_finish),
    reads(0x44, "SEND_CANCEL", len::<legacy::Handle>(), sev::migration::send_cancel),
    answers(0x50, "RECEIVE_START", len::<legacy::Start>(), sev::migration::receive_start),
    reads(0x51, "RECEIVE_UPDATE_DATA", len::<legacy::Packet>(), sev::migration::receive_data),
    reads(0x52, "RECEIVE_UPDATE_VMSA", len::<legacy::Packet>(), sev::migration::receive_vmsa),
    reads(0x53, "RECEIVE_FINISH", len::<legacy::Handle>(), sev::migration::receive_finish),
    reads(0x60, "DBG_DECRYPT", len::<legacy::Dbg>(), sev::guest::dbg_copy),
    reads(0x61, "DBG_ENCRYPT", len::<legacy::Dbg>(), sev::guest::dbg_copy),
    reads(0x81, "SNP_INIT", 0, snp::platform::init),
    reads(0x82, "SNP_SHUTDOWN", 0, snp::platform::shutdown),
    reads(0x83, "SNP_PLATFORM_STATUS", len::<abi::PlatformStatus>(), snp::info::platform_status),
    reads(0x84, "SNP_DF_FLUSH", 0, snp::platform::df_flush),
    reads(0x85, "SNP_INIT_EX", len::<abi::InitEx>(), snp::platform::init_ex),
    reads(0x86, "SNP_SHUTDOWN_EX", len::<abi::ShutdownEx>(), snp::platform::shutdown_ex),
    reads(0x90, "SNP_DECOMMISSION", len::<abi::Gctx>(), snp::guest::decommission),
    reads(0x91, "SNP_ACTIVATE", len::<abi::Activate>(), snp::guest::activate),
    reads(0x92, "SNP_GUEST_STATUS", len::<abi::GuestStatus>(), snp::guest::status),
    reads(0x93, "SNP_GCTX_CREATE", len::<abi::Gctx>(), snp::guest::gctx_create),
    reads(0x94, "SNP_GUEST_REQUEST", len::<abi::GuestRequest>(), snp::request::guest_request),
    reads(0x95, "SNP_ACTIVATE_EX", len::<abi::ActivateEx>(), snp::guest::activate_ex),
    reads(0xa0, "SNP_LAUNCH_START", len::<abi::LaunchStart>(), snp::launch::start),
    reads(0xa1, "SNP_LAUNCH_UPDATE", len::<abi::LaunchUpdate>(), snp::launch::update),
    reads(0xa2, "SNP_LAUNCH_FINISH", len::<abi::LaunchFinish>(), snp::launch::finish),
    reads(0xb0, "SNP_DBG_DECRYPT", len::<abi::Dbg>(), snp::guest::dbg_decrypt),
    reads(0xb1, "SNP_DBG_ENCRYPT", len::<abi::Dbg>(), snp::guest::dbg_encrypt),
    reads(
        0xb2,
        "SNP_VERIFY_MITIGATION",
        len::<abi::VerifyMitigation>(),
        snp::info::verify_mitigation,
    ),
    reads(0xc7, "SNP_PAGE_RECLAIM", len::<abi::PageReclaim>(), snp::page::reclaim),
    reads(0xc9, "SNP_CONFIG", len::<abi::Config>(), snp::config::config),
    reads(
        DOWNLOAD_FIRMWARE_EX,
        "SNP_DOWNLOAD_FIRMWARE_EX",
        len::<firmware::DownloadEx>(),
        firmware::download_ex,
    ),
    reads(0xcb, "SNP_COMMIT", len::<abi::Commit>(), snp::config::commit),
    reads(0xcd, "SNP_VLEK_LOAD", len::<abi::VlekLoad>(), snp::config::vlek_load),
    reads(0xce, "SNP_FEATURE_INFO", len::<abi::FeatureInfo>(), snp::info::feature_info),
];

/// Commands of the ABI that the model does not have. They end in INVALID_COMMAND, as an id that
/// nobody assigned does; the names are here so that a trace says what a driver asked for.
const NOT_MODELLED: &[(u32, &str)] = &[
    (0xc0, "SNP_PAGE_SWAP_OUT"),
    (0xc1, "SNP_PAGE_SWAP_IN"),
    (0xc2, "SNP_PAGE_MOVE"),
    (0xc3, "SNP_PAGE_MD_INIT"),
    (0xc6, "SNP_PAGE_SET_STATE"),
    (0xc8, "SNP_PAGE_UNSMASH"),
    (0xd0, "TIO_STATUS"),
    (0xd1, "TIO_INIT"),
    (0xd2, "TIO_DEV_CREATE"),
    (0xd3, "TIO_DEV_RECLAIM"),
    (0xd4, "TIO_DEV_CONNECT"),
    (0xd5, "TIO_DEV_DISCONNECT"),
];

/// Whether firmware that was installed and does not work takes the command.
pub(crate) fn restores(id: u32) -> bool {
    id == DOWNLOAD_FIRMWARE_EX
}

pub(crate) fn find(id: u32) -> Option<&'static Command> {
    COMMANDS.iter().find(|command| command.id == id)
}

/// The name of a command, if the ABI assigns the id.
pub fn name(id: u32) -> Option<&'static str> {
    let other = || NOT_MODELLED.iter().find(|row| row.0 == id).map(|row| row.1);
    find(id).map(|command| command.name).or_else(other)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_and_names_are_unique() {
        let mut ids: Vec<_> = COMMANDS.iter().map(|c| (c.id, c.name)).collect();
        ids.extend(NOT_MODELLED);
        for (at, key) in ids.iter().enumerate() {
            assert_eq!(ids.iter().position(|row| row.0 == key.0), Some(at), "id of {}", key.1);
            assert_eq!(ids.iter().position(|row| row.1 == key.1), Some(at), "name {}", key.1);
        }
    }
}
