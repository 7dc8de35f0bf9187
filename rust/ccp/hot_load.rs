// SPDX-License-Identifier: GPL-2.0

//! `/sys/class/firmware/snp_dlfw_ex`: firmware that is replaced while SNP is up and guests run.
//!
//! Firmware that was replaced takes each guest over when it is asked for that guest's status, which
//! KVM does ([`guests`]). So kvm-amd stays registered, or stays away, from before the image until
//! all guests have been asked about.

use kernel::{
    device::Device,
    prelude::*, //
};

use crate::{
    guests::Kvm,
    mitigations,
    platform::slot,
    sys::{
        fw_upload::{
            Loader,
            Node,
            Refusal, //
        },
        log, //
    },
};

/// The name in the patches that were proposed for the in-tree driver.
const NAME: &CStr = c"snp_dlfw_ex";

/// The node of the master. None if it cannot be made, which is logged: all else works without.
pub(crate) fn node(dev: &Device) -> Option<Node> {
    Node::register::<Master>(dev, NAME)
        .inspect_err(|err| {
            log::notice!(
                dev,
                "no-image-node",
                "firmware cannot be replaced while it runs: no node for images ({err:?}); put images into /lib/firmware/amd and reload ccp"
            );
        })
        .ok()
}

/// The master's firmware.
struct Master;

impl Loader for Master {
    fn load(image: &[u8]) -> Result<(), Refusal> {
        let kvm = Kvm::hold();
        // The node goes before the master does.
        let mut platform = slot::lock().map_err(|_| Refusal::Hardware)?;
        let loaded = platform.hot_load(image, kvm.can_ask())?;
        // KVM's locks, and that of the files, come before the command lock.
        drop(platform);
        mitigations::update();
        let asked = loaded.guests == 0 || kvm.ask_all().is_ok();
        if let (true, Ok(mut platform)) = (asked, slot::lock()) {
            platform.guests_taken_over();
        }
        match loaded.whole && asked {
            true => Ok(()),
            false => Err(Refusal::ReadWrite),
        }
    }
}
