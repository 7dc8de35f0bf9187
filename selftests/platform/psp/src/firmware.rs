// SPDX-License-Identifier: GPL-2.0
//! Which firmware runs, and which one the chip does not go back behind.
//!
//! A firmware that was downloaded over an older one is provisional until SNP_COMMIT: reports show
//! it, but nothing that lasts may depend on it, and the older one may come back. Source of the
//! rules: sev-dev.c, Linux' Documentation/virt/coco/sev-guest.rst, and the public patches for
//! DOWNLOAD_FIRMWARE_EX (Glaze 2024, Andersen 2026) with their reviews.

use zerocopy::little_endian::{U32, U64};

use crate::abi::structures;
use crate::call::{must_be_zero, Call, Fact};
use crate::image::{Image, Takeover, Unreadable};
use crate::snp::tcb;
use crate::{Api, Config, Part, Psp, Status};

/// Larger than any image that AMD has published.
const MAX_IMAGE: u32 = 1 << 20;
/// An image's alignment (sev-dev.c; INVALID_ADDRESS is a model choice).
const ALIGNMENT: u64 = 32;

structures! {
    /// DOWNLOAD_FIRMWARE.
    Download {
        address: U64,
        len: U32,
    }

    /// SNP_DOWNLOAD_FIRMWARE_EX. `flags`: 0 COMMIT.
    DownloadEx {
        length: U32,
        reserved: [u8; 4],
        address: U64,
        len: U32,
        flags: U32,
    }
}

/// A firmware, by its version and the TCB that the chip has with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Version {
    pub(crate) api: Api,
    pub(crate) tcb: u64,
}

impl Version {
    /// Whether nothing in it is older than in `other`. An API version alone is not enough: the
    /// security version has its own number.
    fn reaches(self, other: Version) -> bool {
        self.api >= other.api && tcb::within(other.tcb, self.tcb)
    }

    /// With the security version of an image in the place of SNP's. What else is part of a TCB
    /// comes with the BIOS.
    fn with(self, image: &Image, part: Part) -> Version {
        let mut tcb = self.tcb.to_le_bytes();
        tcb[part.tcb_layout().snp] = image.svn;
        Version { api: image.api, tcb: u64::from_le_bytes(tcb) }
    }
}

/// The firmware of a processor.
#[derive(Debug)]
pub(crate) struct Firmware {
    pub(crate) current: Version,
    pub(crate) committed: Version,
    /// It was installed and does not work. Nothing but another image helps.
    pub(crate) unusable: bool,
}

impl Firmware {
    /// As the BIOS has loaded it.
    pub(crate) fn new(config: &Config) -> Firmware {
        let current = Version { api: config.api, tcb: config.tcb };
        let committed = Version {
            api: config.committed_api.unwrap_or(current.api),
            tcb: config.committed_tcb.unwrap_or(current.tcb),
        };
        Firmware { current, committed, unusable: false }
    }

    pub(crate) fn commit(&mut self) {
        self.committed = self.current;
    }

    fn install(&mut self, version: Version) {
        (self.current, self.unusable) = (version, false);
    }
}

/// With both platforms down. Firmware from 1.50 on commits what it is replaced with; older ones do
/// not know of committing, which is why Linux downloads twice over them. An image that does not
/// work is not installed (UPDATE_FAILED by its name).
pub(crate) fn download(psp: &mut Psp, call: &mut Call<'_>) -> Result<(), Status> {
    if psp.sev.initialised() || call.rmp.is_some() {
        return Err(Status::InvalidPlatformState);
    }
    let request: Download = call.request();
    // Which of the two kinds of unreadable image it is, this command does not say.
    let image = image(call, request.address, request.len)?.map_err(|_| Status::BadSignature)?;
    let version = newer(psp, call, &image, Status::BadSvn)?;
    if image.takeover == Takeover::Broken {
        return Err(Status::UpdateFailed);
    }
    let commits = psp.firmware.current.api.commits_downloads();
    psp.firmware.install(version);
    if commits {
        psp.firmware.commit();
    }
    Ok(())
}

/// With SNP up or down, but without legacy SEV. Guests go on; their contexts are of the firmware
/// that was, see [`crate::snp::guest`]. From 1.58 on nothing has to follow, before that WBINVD and
/// DF_FLUSH.
///
/// An image that cannot take over what the running firmware has, or contexts of one before that,
/// wants SNP to be shut down first, and changes nothing. One that is installed and does not work
/// leaves a processor that takes nothing but images, without a reset.
pub(crate) fn download_ex(psp: &mut Psp, call: &mut Call<'_>) -> Result<(), Status> {
    const COMMIT: u32 = 1;
    if psp.sev.initialised() {
        return Err(Status::InvalidPlatformState);
    }
    let request: DownloadEx = call.request();
    call.whole(request.length)?;
    must_be_zero(&request.reserved)?;
    let flags = request.flags.get();
    if flags & !COMMIT != 0 {
        return Err(Status::InvalidParam);
    }
    let image = image(call, request.address, request.len)?.map_err(|bad| match bad {
        Unreadable::Malformed => Status::InvalidParam,
        Unreadable::Forged => Status::BadSignature,
    })?;
    let version = newer(psp, call, &image, Status::InvalidConfig)?;
    if let Some(running) = &psp.snp.running {
        let of = |context: Version| context == version || context == psp.firmware.current;
        let too_far = running.guests.values().any(|guest| !of(guest.firmware));
        if too_far || image.takeover == Takeover::Shutdown {
            return Err(Status::ShutdownRequired);
        }
        if !version.api.needs_no_flush_after_download() {
            psp.asids.initialised(call.platform, true);
        }
    }
    psp.firmware.install(version);
    if image.takeover == Takeover::Broken {
        psp.firmware.unusable = true;
        return Err(Status::RestoreRequired);
    }
    if flags & COMMIT != 0 {
        psp.commit();
    }
    Ok(())
}

fn image(call: &mut Call<'_>, address: U64, len: U32) -> Result<Result<Image, Unreadable>, Status> {
    let (pa, len) = (call.address(address), len.get());
    if len == 0 || len > MAX_IMAGE {
        return Err(Status::InvalidLen);
    }
    if pa % ALIGNMENT != 0 {
        return Err(Status::InvalidAddress);
    }
    Ok(Image::read(&call.read(pa, len.into())?))
}

/// What the image makes of the current version, if it is for this part and not older than what was
/// committed. `rollback` is the status for an older security version.
fn newer(
    psp: &Psp,
    call: &mut Call<'_>,
    image: &Image,
    rollback: Status,
) -> Result<Version, Status> {
    let version = psp.firmware.current.with(image, psp.config.part);
    call.fact("firmware", Fact::Text(image.api.to_string()));
    call.fact("svn", Fact::Number(image.svn.into()));
    let [family, model, _] = psp.config.part.cpu();
    if image.part != [family, model] {
        return Err(Status::Unsupported);
    }
    let committed = psp.firmware.committed;
    match version.reaches(committed) {
        true => Ok(version),
        false if version.api < committed.api => Err(Status::BadVersion),
        false => Err(rollback),
    }
}

impl Psp {
    /// What runs is what the chip does not go back behind from now on, and what reports show is
    /// what runs (sev-guest.rst).
    pub(crate) fn commit(&mut self) {
        self.firmware.commit();
        self.snp.reported_tcb = None;
    }

    /// The TCB that reports show and that selects the VCEK: what SNP_CONFIG asked for, or the
    /// committed one. Not the current one, as SNP_COMMIT is said to update it (model choice).
    pub(crate) fn reported_tcb(&self) -> u64 {
        self.snp.reported_tcb.unwrap_or(self.firmware.committed.tcb)
    }
}
