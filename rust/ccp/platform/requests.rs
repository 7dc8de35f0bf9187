// SPDX-License-Identifier: GPL-2.0

//! Requests of user space (`uapi.rs`) and of kvm-amd (`kapi.rs`).
//!
//! Every method runs under the command lock and touches neither user memory nor files: buffers go
//! in and come out as [`HvPages`] and plain values.

use kernel::{
    bindings,
    prelude::*, //
};

use super::{
    Failure,
    Platform,
    Sev, //
};
use crate::{
    cmd::{
        CmdError,
        Snp, //
    },
    mailbox::Transport,
    pages::{
        Address,
        FwPages,
        HvPages, //
    },
    state::{
        self,
        Guest, //
    },
    sys::{
        bindings as c,
        caller_memory::CallerMemory,
        cpu,
        log,
        pages::Gfp, //
    },
    wire::{
        command,
        sev,
        snp::{
            self,
            Feature,
            SnpStatus, //
        },
        Command,
        CommandId,
        CommandInfo,
        Relayed,
        Status,
        TcbLayout, //
    },
};

/// GET_ID exists since this API.
const GET_ID_SINCE: (u8, u8) = (0, 16);
/// The guest-policy bit PAGE_SWAP_DISABLE exists since this API.
const PAGE_SWAP_DISABLE_SINCE: (u8, u8) = (1, 58);

/// AMD-SB-3023: with SNP firmware from this security version on no SEV-ES guests may run next to
/// SNP. `has`: whether the CPU has a feature.
fn es_fixed_in(has: impl Fn(u32) -> bool) -> Option<(TcbLayout, u8)> {
    if has(bindings::X86_FEATURE_ZEN3) || has(bindings::X86_FEATURE_ZEN4) {
        Some((TcbLayout::MilanGenoa, 0x1b))
    } else if has(bindings::X86_FEATURE_ZEN5) {
        Some((TcbLayout::Turin, 0x4))
    } else {
        None
    }
}

/// The answer to a command that fills buffers.
///
/// The lengths are firmware's: those that it wrote or, if `result` is an error, those that it
/// needs.
pub(crate) struct Exported<const N: usize> {
    /// Whether the buffers hold anything.
    pub(crate) result: Result<(), Failure>,
    /// Length of each buffer's contents.
    pub(crate) len: [u32; N],
    /// The buffers; `None` if the caller asked for the lengths only.
    pub(crate) data: [Option<HvPages>; N],
}

impl<const N: usize> Exported<N> {
    /// The contents of buffer `n`.
    pub(crate) fn bytes(&self, n: usize) -> Option<&[u8]> {
        let len = *self.len.get(n)? as usize;
        let bytes = self.data.get(n)?.as_ref()?.bytes();
        Some(bytes.get(..len).unwrap_or(bytes))
    }
}

impl<T: Transport> Platform<T> {
    /// PLATFORM_STATUS.
    ///
    /// # Errors
    ///
    /// See [`CmdError`].
    pub(crate) fn platform_status(&mut self) -> Result<sev::PlatformStatus, Failure> {
        let mut status = sev::PlatformStatus::default();
        self.channel.issue(command::PLATFORM_STATUS, &mut status)?;
        Ok(status)
    }

    /// SNP_PLATFORM_STATUS, live.
    ///
    /// # Errors
    ///
    /// See [`CmdError`].
    pub(crate) fn snp_platform_status(&mut self) -> Result<SnpStatus, Failure> {
        Ok(self.channel.snp_status()?)
    }

    /// FACTORY_RESET, after SHUTDOWN if SEV is initialised: deletes the platform's owner and keys.
    ///
    /// # Errors
    ///
    /// [`EBUSY`] if there are SEV guests; see [`CmdError`].
    pub(crate) fn factory_reset(&mut self) -> Result<(), Failure> {
        let status = self.platform_status()?;
        match status.state() {
            Ok(sev::PlatformState::Working) => {
                return Err(Failure::after_success(EBUSY));
            }
            Ok(sev::PlatformState::Init) => {
                self.channel.issue(command::SHUTDOWN, &mut ())?;
                // The next INIT gets the same TMR.
                self.sev = Sev::Uninit;
                self.nv.take_back(&mut self.channel);
            }
            Ok(sev::PlatformState::Uninit) | Err(_) => {}
        }
        self.channel.issue(command::FACTORY_RESET, &mut ())?;
        self.nv.delete();
        Ok(())
    }

    /// PEK_GEN, with SEV up during the command.
    ///
    /// # Errors
    ///
    /// See [`CmdError`].
    pub(crate) fn pek_gen(&mut self) -> Result<(), Failure> {
        self.with_sev(|p| p.channel.issue(command::PEK_GEN, &mut ()))
    }

    /// PDH_GEN, with SEV up during the command.
    ///
    /// # Errors
    ///
    /// See [`CmdError`].
    pub(crate) fn pdh_gen(&mut self) -> Result<(), Failure> {
        self.with_sev(|p| p.channel.issue(command::PDH_GEN, &mut ()))
    }

    /// PEK_CSR into a buffer of `len` bytes, or only its length for `None`; with SEV up during the
    /// command.
    ///
    /// # Errors
    ///
    /// If SEV could not be started or there is no memory. A refusal of firmware is in the answer.
    pub(crate) fn pek_csr(&mut self, len: Option<u32>) -> Result<Exported<1>, Failure> {
        self.with_sev(|p| p.export(command::PEK_CSR, len))
    }

    /// Whether firmware has GET_ID.
    pub(crate) fn has_get_id(&self) -> bool {
        self.api.at_least(GET_ID_SINCE)
    }

    /// GET_ID into a buffer of `len` bytes, or only its length for `None`.
    ///
    /// # Errors
    ///
    /// If there is no memory. A refusal of firmware is in the answer.
    pub(crate) fn get_id(&mut self, len: Option<u32>) -> Result<Exported<1>, Failure> {
        Ok(self.export(command::GET_ID, len)?)
    }

    /// PDH_CERT_EXPORT into buffers of these lengths (PDH, chain), or only the lengths for `None`.
    /// SEV is up during the command; only a `writable` caller may cause its start.
    ///
    /// # Errors
    ///
    /// [`EPERM`]; if SEV could not be started or there is no memory. A refusal of firmware is in
    /// the answer.
    pub(crate) fn pdh_cert_export(
        &mut self,
        len: Option<[u32; 2]>,
        writable: bool,
    ) -> Result<Exported<2>, Failure> {
        if self.sev == Sev::Uninit && !writable {
            return Err(EPERM.into());
        }
        self.with_sev(|p| p.export_pdh(len))
    }

    /// PEK_CERT_IMPORT of these certificates, with SEV up during the command.
    ///
    /// # Errors
    ///
    /// See [`CmdError`]; [`EINVAL`] if a certificate is larger than 4 GiB.
    pub(crate) fn cert_import(
        &mut self,
        pek: HvPages,
        pek_len: u32,
        oca: HvPages,
        oca_len: u32,
    ) -> Result<(), Failure> {
        self.with_sev(|p| {
            p.channel
                .lending([pek, oca], |channel, [pek_address, oca_address]| {
                    let mut request = sev::PekCertImport {
                        pek_address,
                        pek_len,
                        reserved: 0,
                        oca_address,
                        oca_len,
                    };
                    channel.issue(command::PEK_CERT_IMPORT, &mut request)
                })
        })
    }

    /// SNP_COMMIT.
    ///
    /// # Errors
    ///
    /// See [`CmdError`].
    pub(crate) fn commit(&mut self) -> Result<(), Failure> {
        Ok(self.channel.issue(
            command::SNP_COMMIT,
            &mut snp::SnpCommit {
                // CAST: 4.
                len: size_of::<snp::SnpCommit>() as u32,
            },
        )?)
    }

    /// SNP_CONFIG.
    ///
    /// # Errors
    ///
    /// [`ENODEV`] if SNP is not up; see [`CmdError`].
    pub(crate) fn set_config(&mut self, mut config: snp::SnpConfig) -> Result<(), Failure> {
        self.need_snp()?;
        Ok(self.channel.issue(command::SNP_CONFIG, &mut config)?)
    }

    /// SNP_VLEK_LOAD of a wrapped hashstick. The reserved bytes of the request are the caller's;
    /// firmware checks them.
    ///
    /// # Errors
    ///
    /// [`ENODEV`] if SNP is not up; see [`CmdError`].
    pub(crate) fn vlek_load(&mut self, hashstick: HvPages, rsvd: [u8; 3]) -> Result<(), Failure> {
        self.need_snp()?;
        Ok(self.channel.lending([hashstick], |channel, [address]| {
            let mut request = snp::VlekLoad {
                // CAST: 16.
                len: size_of::<snp::VlekLoad>() as u32,
                version: 0,
                rsvd,
                address,
            };
            channel.issue(command::SNP_VLEK_LOAD, &mut request)
        })?)
    }

    /// Whether SNP firmware is up and can say which vulnerabilities it has mitigated.
    pub(crate) fn has_verify_mitigation(&self) -> bool {
        self.is_snp_up() && self.features.has(Feature::VerifyMitigation)
    }

    /// SNP_VERIFY_MITIGATION of one mitigation, or only a query.
    ///
    /// # Errors
    ///
    /// See [`CmdError`]; they have been logged.
    pub(crate) fn verify_mitigation(
        &mut self,
        mitigation: Option<u64>,
    ) -> Result<snp::Mitigations, Failure> {
        let kind = self.channel.page_kind();
        Ok(self.channel.answer_in_page(kind, |channel, dst_paddr| {
            let mut request = snp::VerifyMitigation {
                // CAST: 64.
                length: size_of::<snp::VerifyMitigation>() as u32,
                subcommand: match mitigation {
                    Some(_) => snp::MITIGATION_VERIFY,
                    None => snp::MITIGATION_STATUS,
                },
                vector: mitigation.unwrap_or(0),
                flags: snp::MITIGATION_DST_EN,
                dst_paddr,
                ..snp::VerifyMitigation::default()
            };
            channel.require(command::SNP_VERIFY_MITIGATION, &mut request)
        })?)
    }

    /// A command of another kernel module. `data` is its command buffer, with the length that the
    /// command table gives. The first command that needs legacy SEV starts it, if kvm-amd has
    /// called `sev_platform_init()`.
    ///
    /// # Errors
    ///
    /// See [`CmdError`]; those of the start have been logged.
    pub(crate) fn relay(
        &mut self,
        command: Relayed,
        data: &mut [u8],
        memory: &CallerMemory,
    ) -> Result<(), Failure> {
        if self.sev_on_demand && self.sev == Sev::Uninit && command.info().id.needs_sev() {
            self.start_sev().map_err(Failure::of_start)?;
        }
        let mut result = self.channel.relay(command, data, memory);
        let early = matches!(result, Err(err) if err.is(Status::INVALID_GUEST_STATE));
        if early && self.takes_guest_over(command.info(), data) {
            result = self.channel.relay(command, data, memory);
        }
        let refused = matches!(result, Err(err) if err.is(Status::INVALID_PLATFORM_STATE));
        if refused && command.info().id == CommandId::SNP_GCTX_CREATE && !self.is_snp_up() {
            log::err!(
                self.dev(),
                "snp-not-started",
                "no SNP guest can be made: SNP was not initialised since the PSP was bound; end all guests and reload kvm_amd"
            );
        }
        result?;
        self.note_guest(command.info().id, data);
        Ok(())
    }

    /// Notes what a command has done to a guest.
    fn note_guest(&self, command: CommandId, data: &[u8]) {
        let word = |at: usize| Some(u32::from_le_bytes(*data.get(at..)?.first_chunk()?));
        let snp = |context: Address| Guest::Snp(context.raw());
        match (command, context_in(data), word(0)) {
            (CommandId::SNP_GCTX_CREATE, Some(context), _) => self.set_context(context, true),
            (CommandId::SNP_DECOMMISSION, Some(context), _) => {
                self.set_context(context, false);
                state::unbound(snp(context));
            }
            (CommandId::SNP_ACTIVATE, Some(context), _) => {
                if let Some(asid) = word(8) {
                    state::bound(asid, snp(context));
                }
            }
            (CommandId::ACTIVATE, _, Some(handle)) => {
                if let Some(asid) = word(4) {
                    state::bound(asid, Guest::Sev(handle));
                }
            }
            (CommandId::DEACTIVATE, _, Some(handle)) => state::unbound(Guest::Sev(handle)),
            _ => {}
        }
    }

    /// Whether SNP firmware is in the INIT state, by this driver.
    pub(crate) fn is_snp_up(&self) -> bool {
        matches!(self.channel.snp(), Snp::Up(_))
    }

    /// # Errors
    ///
    /// [`ENODEV`] if SNP firmware is not in the INIT state by this driver.
    pub(crate) fn need_snp(&self) -> Result {
        self.is_snp_up().then_some(()).ok_or(ENODEV)
    }

    /// Whether firmware can hide ciphertext and the BIOS is set up for it.
    pub(crate) fn has_ciphertext_hiding(&self) -> bool {
        self.features.has(Feature::CiphertextHiding)
            && self.snp_status.has(SnpStatus::FLAG_CIPHERTEXT_HIDING_CAP)
    }

    /// The guest-policy bits that this firmware knows.
    pub(crate) fn snp_policy_bits(&self) -> u64 {
        if !self.channel.host().is_snp_host() {
            return 0;
        }
        let mut bits = snp::POLICY_BASE;
        for (feature, bit) in [
            (Feature::RaplDisable, snp::POLICY_RAPL_DIS),
            (Feature::CiphertextHiding, snp::POLICY_CIPHERTEXT_HIDING),
            (Feature::Aes256XtsPolicy, snp::POLICY_AES_256_XTS),
            (Feature::CxlAllowPolicy, snp::POLICY_CXL_ALLOW),
        ] {
            if self.features.has(feature) {
                bits |= bit;
            }
        }
        let has_feature_info = self.snp_status.has(SnpStatus::FLAG_FEATURE_INFO);
        if has_feature_info && self.api.at_least(PAGE_SWAP_DISABLE_SINCE) {
            bits |= snp::POLICY_PAGE_SWAP_DISABLE;
        }
        bits
    }

    /// The kinds of guests that kvm-amd may offer: `1 << KVM_X86_SEV_VM` and so on.
    pub(crate) fn vm_types(&mut self) -> c_int {
        self.vm_types_with(es_fixed_in(cpu::has))
    }

    fn vm_types_with(&mut self, es_fixed_in: Option<(TcbLayout, u8)>) -> c_int {
        let (sev, es) = (1 << c::KVM_X86_SEV_VM, 1 << c::KVM_X86_SEV_ES_VM);
        if !self.is_snp_up() {
            return sev | es;
        }
        let snp = 1 << c::KVM_X86_SNP_VM;
        match self.allows_es(es_fixed_in) {
            true => sev | es | snp,
            false => sev | snp,
        }
    }

    /// Whether SEV-ES guests may run next to SNP.
    fn allows_es(&mut self, es_fixed_in: Option<(TcbLayout, u8)>) -> bool {
        let Some((layout, fixed_in)) = es_fixed_in else {
            return true;
        };
        match self.channel.snp_status() {
            Ok(status) => layout.snp_svn(status.current_tcb) < fixed_in,
            // Firmware that cannot say is not trusted with SEV-ES guests.
            Err(err) => {
                if !matches!(err, CmdError::Dead(_)) {
                    self.channel
                        .report(command::SNP_PLATFORM_STATUS.info(), err);
                }
                false
            }
        }
    }

    /// A command with one output buffer.
    fn export(
        &mut self,
        command: Command<sev::OutBuffer>,
        len: Option<u32>,
    ) -> Result<Exported<1>, CmdError> {
        let info = command.info();
        let buffer = self.output(len)?;
        let mut request = sev::OutBuffer {
            address: address_of(&buffer),
            len: len.unwrap_or(0),
        };
        let mut result = self.channel.issue(command, &mut request);
        let data = [self.take_back(buffer, &mut result)];
        Ok(self.exported(info, result, [request.len], len.map(|len| [len]), data))
    }

    /// Firmware's answer, where the buffers have the sizes `room`.
    ///
    /// Firmware cannot have written more into a buffer than it holds. Such a success becomes an
    /// error, and the caller does not get the length: it might read past the end of its own buffer.
    fn exported<const N: usize>(
        &self,
        command: &CommandInfo,
        result: Result<(), CmdError>,
        mut len: [u32; N],
        room: Option<[u32; N]>,
        data: [Option<HvPages>; N],
    ) -> Exported<N> {
        let mut result = result.map_err(Failure::from);
        if let (Ok(()), Some(room)) = (result, room) {
            let too_long = len.iter().zip(room).find(|(len, room)| **len > *room);
            if let Some((claimed, size)) = too_long {
                log::err!(
                    self.dev(),
                    "answer-too-long",
                    "{} failed: firmware says that it put {:#x} bytes into a buffer of {:#x}; the answer is not used, look for newer firmware",
                    command.name,
                    claimed,
                    size
                );
                result = Err(Failure::after_success(EIO));
                len = room;
            }
        }
        Exported { result, len, data }
    }

    fn export_pdh(&mut self, len: Option<[u32; 2]>) -> Result<Exported<2>, CmdError> {
        let [pdh_len, chain_len] = len.unwrap_or_default();
        let pdh = self.output(len.map(|_| pdh_len))?;
        let chain = match self.output(len.map(|_| chain_len)) {
            Ok(chain) => chain,
            Err(err) => {
                let mut result = Err(err);
                self.take_back(pdh, &mut result);
                return result;
            }
        };
        let mut request = sev::PdhCertExport {
            pdh_address: address_of(&pdh),
            pdh_len,
            reserved: 0,
            chain_address: address_of(&chain),
            chain_len,
        };
        let mut result = self.channel.issue(command::PDH_CERT_EXPORT, &mut request);
        let data = [
            self.take_back(pdh, &mut result),
            self.take_back(chain, &mut result),
        ];
        let lens = [request.pdh_len, request.chain_len];
        Ok(self.exported(command::PDH_CERT_EXPORT.info(), result, lens, len, data))
    }

    /// Pages for `len` bytes of output, given to firmware.
    fn output(&mut self, len: Option<u32>) -> Result<Option<FwPages>, CmdError> {
        let Some(len) = len else { return Ok(None) };
        let pages = HvPages::for_len(Gfp::KERNEL_ACCOUNT, len as usize)?;
        self.channel.give(pages).map(Some)
    }

    /// Takes output pages back. A failure makes `result` a failure.
    fn take_back<R>(
        &mut self,
        pages: Option<FwPages>,
        result: &mut Result<R, CmdError>,
    ) -> Option<HvPages> {
        let taken = pages?.take_back(&mut self.channel).ok();
        if taken.is_none() {
            *result = Err(CmdError::losing(result));
        }
        taken
    }
}

/// The context of the guest that a command of SNP is about, with whose address its buffer begins.
pub(super) fn context_in(data: &[u8]) -> Option<Address> {
    Some(Address::read_from_prefix(data).ok()?.0)
}

fn address_of(pages: &Option<FwPages>) -> Address {
    pages
        .as_ref()
        .map_or(Address::NONE, |pages| pages.spa().encrypted())
}

#[cfg(CONFIG_KUNIT = "y")]
mod tests;
