// SPDX-License-Identifier: GPL-2.0

//! Identifying firmware, and updating it (DOWNLOAD_FIRMWARE).

use kernel::{
    firmware::Firmware,
    prelude::*,
    str::CString, //
};

use super::{
    Platform,
    Sev, //
};
use crate::{
    cmd::CmdError,
    mailbox::Transport,
    pages::HvPages,
    sys::{
        bindings::snp_host_keep,
        cpu,
        log,
        snp_host::HotplugWindow, //
    },
    wire::{
        command,
        sev,
        snp::{
            FeatureInfo,
            FeatureInfoRequest,
            SnpStatus, //
        },
        ApiVersion,
        Status, //
    },
};

/// Firmware before this cannot be updated.
const DOWNLOAD_SINCE: (u8, u8) = (0, 15);
/// Firmware before this commits an update only when it is loaded a second time.
const COMMITS_SINCE: (u8, u8) = (1, 50);

impl<T: Transport> Platform<T> {
    /// Queries versions, features and states: on SNP hosts with SNP_PLATFORM_STATUS and, if
    /// firmware has the command, SNP_FEATURE_INFO; then with PLATFORM_STATUS, whose version counts.
    ///
    /// # Errors
    ///
    /// See [`CmdError`]; they have been logged.
    pub(super) fn identify(&mut self) -> Result<(), CmdError> {
        if self.channel.host().is_snp_host() {
            self.snp_status = self.first_snp_status()?;
            self.features = match self.snp_status.has(SnpStatus::FLAG_FEATURE_INFO) {
                true => self.query_features()?,
                false => FeatureInfo::default(),
            };
            let x86_shutdown = self.has_x86_snp_shutdown();
            self.channel.record().set_x86_snp_shutdown(x86_shutdown);
        }

        let mut status = sev::PlatformStatus::default();
        self.channel
            .require(command::PLATFORM_STATUS, &mut status)?;
        self.api = ApiVersion {
            major: status.api_major,
            minor: status.api_minor,
            build: status.build.into(),
        };
        self.sev = match status.state() {
            Ok(sev::PlatformState::Uninit) => Sev::Uninit,
            Ok(sev::PlatformState::Init | sev::PlatformState::Working) => Sev::Stale,
            Err(state) => {
                log::err!(
                    self.dev(),
                    "sev-state-unknown",
                    "PLATFORM_STATUS: firmware is in state {state}, which the SEV API does not have; the driver keeps off"
                );
                return Err(EIO.into());
            }
        };
        Ok(())
    }

    /// SNP_PLATFORM_STATUS, with a page of the host's for the answer.
    ///
    /// Firmware in the INIT state refuses such a page. Then an earlier load of this driver has
    /// given firmware up after a time-out, or an earlier kernel has not stopped it (kexec). The
    /// driver adopts such firmware, and stops it before it is used.
    fn first_snp_status(&mut self) -> Result<SnpStatus, CmdError> {
        let err = match self.channel.snp_status() {
            Err(err) if err.is(Status::INVALID_PAGE_STATE) => err,
            result => {
                return result.inspect_err(|err| {
                    self.channel
                        .report(command::SNP_PLATFORM_STATUS.info(), *err)
                })
            }
        };
        let adopted = HotplugWindow::open(self.channel.host()).and_then(HotplugWindow::adopt);
        let Ok(enabled) = adopted else {
            log::err!(
                self.dev(),
                "snp-left-uneven",
                "SNP_PLATFORM_STATUS failed: {}: SNP firmware is still initialised, but not every CPU has SNP_EN, so it cannot be stopped; restart the machine",
                Status::INVALID_PAGE_STATE
            );
            return Err(err);
        };
        match self.channel.adopt_snp(enabled) {
            Ok(status) => {
                log::notice!(
                    self.dev(),
                    "snp-left-initialised",
                    "SNP firmware was left initialised, with {} guest(s), by an earlier kernel or a driver that lost touch with it; it is started anew when kvm_amd is loaded",
                    { status.guest_count }
                );
                Ok(status)
            }
            Err((enabled, err)) => {
                self.channel
                    .report(command::SNP_PLATFORM_STATUS.info(), err);
                if let CmdError::Died(_) = err {
                    enabled.keep(snp_host_keep::SNP_HOST_KEEP_TIMEOUT);
                }
                Err(err)
            }
        }
    }

    fn query_features(&mut self) -> Result<FeatureInfo, CmdError> {
        let kind = self.channel.page_kind();
        self.channel.answer_in_page(kind, |channel, address| {
            channel.require(
                command::SNP_FEATURE_INFO,
                &mut FeatureInfoRequest {
                    // CAST: 16.
                    length: size_of::<FeatureInfoRequest>() as u32,
                    ecx_in: 0,
                    address,
                },
            )
        })
    }

    /// Loads the newest firmware image that the system has for this CPU. Firmware may refuse it. A
    /// failure changes nothing: the old firmware goes on.
    pub(super) fn update_firmware(&mut self) {
        if !self.api.at_least(DOWNLOAD_SINCE) {
            return;
        }
        if self.channel.snp_init() {
            // Firmware takes no image in the INIT state.
            return;
        }
        let Some((name, image)) = self.find_firmware() else {
            return;
        };
        let before = self.api;
        if let Err(err) = self.download(image.data()) {
            if !matches!(err, CmdError::Died(_)) {
                log::warn!(
                    self.dev(),
                    "download-refused",
                    "DOWNLOAD_FIRMWARE failed: {err}; the image is {name}, firmware {before} goes on",
                    name = &*name
                );
            }
            return;
        }
        if self.identify().is_ok() && self.api != before {
            dev_info!(
                self.dev(),
                "SEV firmware updated from {before} to {}\n",
                self.api
            );
        }
    }

    /// The image for this model, else the one for its subset of models, else the one for all.
    fn find_firmware(&self) -> Option<(CString, Firmware)> {
        let (family, model) = cpu::family_model();
        let names = [
            CString::try_from_fmt(fmt!("amd/amd_sev_fam{family:02x}h_model{model:02x}h.sbin")),
            CString::try_from_fmt(fmt!(
                "amd/amd_sev_fam{family:02x}h_model{:x}xh.sbin",
                model >> 4
            )),
            CString::try_from_fmt(fmt!("amd/sev.fw")),
        ];
        names.into_iter().filter_map(Result::ok).find_map(|name| {
            let image = Firmware::request_nowarn(&name, self.dev()).ok()?;
            Some((name, image))
        })
    }

    /// DOWNLOAD_FIRMWARE of an image.
    ///
    /// # Errors
    ///
    /// See [`CmdError`].
    pub(super) fn download(&mut self, image: &[u8]) -> Result<(), CmdError> {
        let len = u32::try_from(image.len()).map_err(|_| E2BIG)?;
        let twice = !self.api.at_least(COMMITS_SINCE);
        let pages = HvPages::with_data(image)?;
        self.channel.lending([pages], |channel, [address]| {
            let mut request = sev::DownloadFirmware { address, len };
            channel.issue(command::DOWNLOAD_FIRMWARE, &mut request)?;
            if twice {
                channel.issue(command::DOWNLOAD_FIRMWARE, &mut request)?;
            }
            Ok(())
        })
    }
}

#[cfg(CONFIG_KUNIT = "y")]
mod tests;
