// SPDX-License-Identifier: GPL-2.0

//! Replacing firmware that runs (SNP_DOWNLOAD_FIRMWARE_EX).
//!
//! SNP may be in any state, and its guests go on. Legacy SEV must not be initialised: where no SEV
//! or SEV-ES guest lives it is stopped for the time of the command. The driver never commits an
//! image: as long as the administrator has not done so (SNP_COMMIT), the image before can be loaded
//! again.

use kernel::prelude::*;

use super::{
    requests::context_in,
    Platform,
    Sev, //
};
use crate::{
    cmd::CmdError,
    mailbox::Transport,
    pages::HvPages,
    sys::{
        fw_upload::Refusal,
        log, //
    },
    wire::{
        command,
        sev,
        snp,
        ApiVersion,
        CommandId,
        CommandInfo,
        Status, //
    },
};

/// The most that the page allocator has in one piece, and several times the size of an image.
const MAX_LEN: usize = 4 << 20;

/// An image was loaded.
pub(crate) struct Loaded {
    /// SNP guests that the new firmware has to be asked about.
    pub(crate) guests: u32,
    /// What had to follow the image at once was done.
    pub(crate) whole: bool,
}

/// What is to be done about legacy SEV after the image.
#[derive(Clone, Copy, PartialEq, Eq)]
enum SevAfterwards {
    /// It was not up, or was not ours to use.
    Down,
    /// It was stopped for the image.
    Restart,
}

impl<T: Transport> Platform<T> {
    /// Has firmware replace itself with `image`.
    ///
    /// `has_hooks`: kvm-amd can be asked about all SNP guests, which the caller does afterwards,
    /// without the command lock.
    ///
    /// # Errors
    ///
    /// See [`Refusal`]; the log has the reason, and whether the old firmware goes on.
    pub(crate) fn hot_load(&mut self, image: &[u8], has_hooks: bool) -> Result<Loaded, Refusal> {
        let guests = self.guests();
        if guests != 0 && !has_hooks {
            log::err!(
                self.dev(),
                "image-snp-guests",
                "firmware image not loaded: there are {guests} SNP guest(s), and this kvm_amd does not tell firmware to take them over; end them, or use a kvm_amd with hooks"
            );
            return Err(Refusal::Busy);
        }
        if image.len() > MAX_LEN {
            log::err!(
                self.dev(),
                "image-too-long",
                "firmware image not loaded: it has {} bytes, and no image has more than {MAX_LEN}; is it the right file?",
                image.len()
            );
            return Err(Refusal::Size);
        }
        let sev = self.stop_sev_for_image()?;
        let before = self.api;
        let was_unusable = self.channel.set_unusable(false);
        let result = self.download_ex(image);
        let unusable = match result {
            Ok(()) => false,
            Err(err) => was_unusable || err.is(Status::RESTORE_REQUIRED),
        };
        self.channel.set_unusable(unusable);
        let loaded = match result {
            Ok(()) => Ok(Loaded {
                guests,
                whole: self.after_image(before),
            }),
            Err(err) => Err(self.image_refused(err, before, was_unusable)),
        };
        if sev == SevAfterwards::Restart {
            self.restart_sev();
        }
        loaded
    }

    /// Firmware takes no image while legacy SEV is initialised.
    fn stop_sev_for_image(&mut self) -> Result<SevAfterwards, Refusal> {
        let afterwards = match self.sev {
            Sev::Uninit => return Ok(SevAfterwards::Down),
            Sev::Init => SevAfterwards::Restart,
            Sev::Stale => SevAfterwards::Down,
        };
        let mut status = sev::PlatformStatus::default();
        let stopped = self
            .channel
            .require(command::PLATFORM_STATUS, &mut status)
            .and_then(|()| match status.state() {
                Ok(sev::PlatformState::Working) => Ok(false),
                _ => self.stop_sev().map(|()| true),
            });
        match stopped {
            Ok(true) => Ok(afterwards),
            Ok(false) => {
                log::err!(
                    self.dev(),
                    "image-sev-guests",
                    "firmware image not loaded: there are {} SEV or SEV-ES guest(s), and firmware takes an image only while legacy SEV is stopped; end them",
                    { status.guest_count }
                );
                Err(Refusal::Busy)
            }
            Err(err) => {
                log::err!(
                    self.dev(),
                    "image-sev-stays",
                    "firmware image not loaded: legacy SEV could not be stopped for it"
                );
                Err(refusal(err))
            }
        }
    }

    fn download_ex(&mut self, image: &[u8]) -> Result<(), CmdError> {
        let pages = HvPages::with_data(image)?;
        self.channel.lending([pages], |channel, [address]| {
            channel.issue(
                command::SNP_DOWNLOAD_FIRMWARE_EX,
                &mut snp::DownloadFirmwareEx {
                    // CAST: 24.
                    length: size_of::<snp::DownloadFirmwareEx>() as u32,
                    address,
                    // CAST: At most `MAX_LEN`.
                    len: image.len() as u32,
                    ..Default::default()
                },
            )
        })
    }

    /// Does what firmware demands after an image, and asks what it is now. Returns whether all of
    /// that was done; failures have been logged.
    fn after_image(&mut self, before: ApiVersion) -> bool {
        let mut whole = true;
        self.replaced_under_guests = true;
        if self.channel.snp_init() {
            // Before API 1.58 firmware binds no ASID until then. Later firmware does not mind.
            self.channel.host().wbinvd_on_all();
            whole = self.channel.require(command::SNP_DF_FLUSH, &mut ()).is_ok();
        }
        whole &= self.identify().is_ok();
        log::notice!(
            self.dev(),
            "firmware-provisional",
            "SEV firmware updated from {before} to {} in place; it is provisional: SNP_COMMIT makes it the oldest that this chip takes, until then {before} can be loaded again",
            self.api
        );
        whole
    }

    /// All guests have been asked about since the last image.
    pub(crate) fn guests_taken_over(&mut self) {
        self.replaced_under_guests = false;
    }

    /// Firmware has refused `command` with INVALID_GUEST_STATE. Whether that is because it was
    /// replaced, and has not been asked about this guest yet, which is made good: then the command
    /// is to be issued once more. (A Linux guest whose request fails never sends another one.)
    pub(super) fn takes_guest_over(&mut self, command: &CommandInfo, data: &[u8]) -> bool {
        let Some(gctx) = context_in(data) else {
            return false;
        };
        let waits = self.replaced_under_guests
            && command.id != CommandId::SNP_GUEST_STATUS
            && self.channel.record().contexts().any(|known| known == gctx);
        let kind = self.channel.page_kind();
        waits
            && self
                .channel
                .answer_in_page::<[u8; 32]>(kind, |channel, address| {
                    let mut request = snp::GuestStatus { gctx, address };
                    channel.issue(command::SNP_GUEST_STATUS, &mut request)
                })
                .is_ok()
    }

    /// Logs why firmware did not take the image, and what follows.
    fn image_refused(&self, err: CmdError, before: ApiVersion, was_unusable: bool) -> Refusal {
        let command = command::SNP_DOWNLOAD_FIRMWARE_EX.info().name;
        match err {
            // The mailbox has said so.
            CmdError::Died(_) => {}
            CmdError::Firmware(Status::RESTORE_REQUIRED) => log::err!(
                self.dev(),
                "firmware-unusable",
                "{command} failed: {}: the new firmware does not work, and refuses all but images; load the image of {before} now, or restart the machine",
                Status::RESTORE_REQUIRED
            ),
            CmdError::Firmware(status) if was_unusable => log::err!(
                self.dev(),
                "firmware-still-unusable",
                "{command} failed: {status}: {}; firmware still does not work, load another image",
                why(status)
            ),
            CmdError::Firmware(status) => log::err!(
                self.dev(),
                "image-refused",
                "{command} failed: {status}: {}; the old firmware goes on ({before})",
                why(status)
            ),
            err => log::err!(
                self.dev(),
                "image-not-loaded",
                "{command} failed: {err}; the old firmware goes on ({before})"
            ),
        }
        refusal(err)
    }

    /// Starts legacy SEV again. If it does not start, the first SEV guest tries once more.
    fn restart_sev(&mut self) {
        if self.channel.dead().is_some() || self.start_sev().is_ok() {
            return;
        }
        self.sev_on_demand = true;
        log::notice!(
            self.dev(),
            "sev-off-after-image",
            "legacy SEV was stopped for the firmware image, and stays off until the first SEV or SEV-ES guest starts it"
        );
    }
}

/// Cause and remedy of a refusal. Most statuses have another meaning than with other commands.
fn why(status: Status) -> &'static str {
    match status {
        Status::BAD_SIGNATURE => {
            "AMD has not signed the image for this CPU, or it is damaged; get it anew"
        }
        Status::INVALID_PARAM => "the file has not the form of an image; is it an .sbin file?",
        Status::UNSUPPORTED => "the image is for another CPU; get the one for this family and model",
        Status::BAD_VERSION | Status::BAD_SVN | Status::INVALID_CONFIG => {
            "the image is older than what was committed, which nothing takes back; get a newer one"
        }
        Status::INVALID_LEN => "the image has the wrong length; get it anew",
        Status::SHUTDOWN_REQUIRED => {
            "the image cannot take over SNP as it is; end all SNP guests and load it again, and if that does not help unload kvm_amd before"
        }
        Status::INVALID_COMMAND => {
            "firmware cannot be replaced while it runs; put the image into /lib/firmware/amd and reload ccp"
        }
        status => status.cause(),
    }
}

fn refusal(err: CmdError) -> Refusal {
    match err {
        CmdError::Died(_) => Refusal::Timeout,
        CmdError::Transport(_) => Refusal::ReadWrite,
        CmdError::Dead(_) | CmdError::Lost(_) => Refusal::Hardware,
        CmdError::Firmware(status) => match status {
            Status::BAD_SIGNATURE
            | Status::INVALID_PARAM
            | Status::UNSUPPORTED
            | Status::BAD_VERSION
            | Status::BAD_SVN
            | Status::INVALID_CONFIG => Refusal::Invalid,
            Status::INVALID_LEN => Refusal::Size,
            Status::SHUTDOWN_REQUIRED | Status::INVALID_PLATFORM_STATE => Refusal::Busy,
            Status::UPDATE_FAILED | Status::RESTORE_REQUIRED => Refusal::ReadWrite,
            _ => Refusal::Hardware,
        },
    }
}

#[cfg(CONFIG_KUNIT = "y")]
mod tests;
