// SPDX-License-Identifier: GPL-2.0
//! Writes an image of firmware to a file, for a driver to find in /lib/firmware/amd or for an
//! administrator to load. An image says what it is: see [`psp::image`].

use std::path::PathBuf;
use std::process::ExitCode;
use std::{fs, io};

use clap::{Parser, ValueEnum};
use psp::image::{Image, Signer, Takeover, SIGNATURE};
use psp::{Api, Config, Part};

#[derive(Parser)]
#[command(about = "An image of the PSP model's firmware, for DOWNLOAD_FIRMWARE(_EX)")]
#[command(long_about = None)]
struct Cli {
    /// Where to write it
    file: PathBuf,
    /// Its version
    #[arg(long, default_value_t = Config::MILAN.api)]
    api: Api,
    /// Its security version number, SNP's part of the TCB
    #[arg(long, default_value_t = svn_of(Config::MILAN.tcb))]
    svn: u8,
    /// CPUID family of the part that it is for
    #[arg(long, default_value_t = Part::Milan.cpu()[0])]
    family: u8,
    /// CPUID model
    #[arg(long, default_value_t = Part::Milan.cpu()[1])]
    model: u8,
    /// What it does to a platform on which SNP is up
    #[arg(long, value_enum, default_value_t = Live::Yes)]
    live: Live,
    /// What is wrong with the file
    #[arg(long, value_enum)]
    spoil: Option<Spoil>,
}

#[derive(Clone, Copy, ValueEnum)]
enum Live {
    /// Guests go on
    Yes,
    /// It wants SNP to be shut down first (SHUTDOWN_REQUIRED)
    Shutdown,
    /// It does not work (RESTORE_REQUIRED; UPDATE_FAILED from DOWNLOAD_FIRMWARE)
    Broken,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Spoil {
    /// It has no signature
    Unsigned,
    /// Somebody else has signed it
    Stranger,
    /// A bit is wrong
    Damaged,
    /// The second half is missing
    Cut,
    /// It is something else, of the same length
    Noise,
}

/// SNP's part of a TCB version in the layout of Milan.
const fn svn_of(tcb: u64) -> u8 {
    tcb.to_le_bytes()[Part::Milan.tcb_layout().snp]
}

impl Cli {
    fn image(&self) -> Image {
        let takeover = match self.live {
            Live::Yes => Takeover::Live,
            Live::Shutdown => Takeover::Shutdown,
            Live::Broken => Takeover::Broken,
        };
        Image { part: [self.family, self.model], api: self.api, svn: self.svn, takeover }
    }
}

fn bytes(image: &Image, spoil: Option<Spoil>) -> Vec<u8> {
    let mut bytes = image.signed(Signer::Vendor);
    let len = bytes.len();
    match spoil {
        None => {}
        Some(Spoil::Unsigned) => bytes[len - SIGNATURE..].fill(0),
        Some(Spoil::Stranger) => return image.signed(Signer::Stranger),
        Some(Spoil::Damaged) => bytes[len / 2] ^= 1,
        Some(Spoil::Cut) => bytes.truncate(len / 2),
        Some(Spoil::Noise) => bytes.iter_mut().for_each(|byte| *byte ^= 0x5a),
    }
    bytes
}

fn run(cli: &Cli) -> io::Result<()> {
    fs::write(&cli.file, bytes(&cli.image(), cli.spoil))
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    match run(&cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("sbin: cannot write {}: {error}", cli.file.display());
            ExitCode::FAILURE
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use psp::image::Unreadable::{Forged, Malformed};

    #[test]
    fn the_command_line_is_consistent() {
        use clap::CommandFactory;
        Cli::command().debug_assert();
    }

    #[test]
    fn an_image_is_what_was_asked_for() {
        let line = "sbin f --api 1.56.3 --svn 21 --family 26 --model 2 --live shutdown";
        let image = Cli::parse_from(line.split(' ')).image();
        let api = Api { major: 1, minor: 56, build: 3 };
        assert_eq!(image, Image { part: [26, 2], api, svn: 21, takeover: Takeover::Shutdown });
        assert_eq!(Image::read(&bytes(&image, None)), Ok(image));
        let plain = Cli::parse_from(["sbin", "f"]).image();
        let (api, [family, model, _]) = (Config::MILAN.api, Part::Milan.cpu());
        assert_eq!(plain, Image { part: [family, model], api, svn: 20, takeover: Takeover::Live });
    }

    #[test]
    fn spoiled_images_are_refused() {
        let image = Cli::parse_from(["sbin", "f"]).image();
        for spoil in Spoil::value_variants() {
            let expected = match spoil {
                Spoil::Unsigned | Spoil::Stranger | Spoil::Damaged => Forged,
                Spoil::Cut | Spoil::Noise => Malformed,
            };
            assert_eq!(Image::read(&bytes(&image, Some(*spoil))), Err(expected), "{spoil:?}");
        }
    }
}
