// SPDX-License-Identifier: GPL-2.0

//! Finds files in an initramfs: cpio archives of the kind "newc", each compressed or not, one
//! behind the other (Documentation/driver-api/early-userspace/buffer-format.rst of the kernel).

use crate::host::{Host, Why};

/// The first bytes of compressed data, and who unpacks them.
const PACKERS: [(&[u8], &str); 5] = [
    (&[0x1f, 0x8b], "gzip"),
    (&[0x28, 0xb5, 0x2f, 0xfd], "zstd"),
    (&[0xfd, b'7', b'z', b'X', b'Z'], "xz"),
    (&[0x02, 0x21, 0x4c, 0x18], "lz4"),
    (b"BZh", "bzip2"),
];
const HEAD: usize = 110;

/// The files whose names end like that, compressed ones unpacked: name, contents.
pub fn find(host: &Host, archive: &str, ending: &str) -> Result<Vec<(String, Vec<u8>)>, Why> {
    let bytes = host.bytes(archive)?;
    let mut found = Vec::new();
    let rest = entries(&bytes, ending, &mut found)?;
    if rest < bytes.len() {
        let (_, program) =
            PACKERS.iter().find(|(magic, _)| bytes[rest..].starts_with(magic)).ok_or_else(
                || Why::Failed("it is packed in a way that host-check does not know".into()),
            )?;
        let inner = host.filter(program, &["-dc"], &bytes[rest..])?;
        entries(&inner, ending, &mut found)?;
    }
    found
        .into_iter()
        .map(|(name, contents)| Ok((name.clone(), unpack(host, &name, contents)?)))
        .collect()
}

fn unpack(host: &Host, name: &str, contents: Vec<u8>) -> Result<Vec<u8>, Why> {
    let Some((_, program)) = PACKERS.iter().find(|(magic, _)| contents.starts_with(magic)) else {
        return Ok(contents);
    };
    host.filter(program, &["-dc"], &contents).map_err(|why| Why::Failed(why.of(name)))
}

/// Takes what is wanted of the archives at the beginning; returns where they end.
fn entries(bytes: &[u8], ending: &str, found: &mut Vec<(String, Vec<u8>)>) -> Result<usize, Why> {
    let mut at = 0;
    loop {
        // Between archives there may be zeros.
        at += bytes[at..].iter().take_while(|byte| **byte == 0).count();
        let head = &bytes[at..];
        if !head.starts_with(b"070701") && !head.starts_with(b"070702") {
            return Ok(at);
        }
        let (name, data, next) =
            entry(head).ok_or_else(|| Why::Failed("a cpio archive is cut off".into()))?;
        if ["", ".xz", ".zst", ".gz"]
            .iter()
            .any(|packed| name.ends_with(&format!("{ending}{packed}")))
        {
            found.push((name, data.to_vec()));
        }
        at += next;
    }
}

/// Name, contents, and where the next one begins.
fn entry(head: &[u8]) -> Option<(String, &[u8], usize)> {
    let field = |n: usize| {
        let digits = std::str::from_utf8(head.get(6 + 8 * n..14 + 8 * n)?).ok()?;
        usize::from_str_radix(digits, 16).ok()
    };
    let (size, name_size) = (field(6)?, field(11)?);
    let name = head.get(HEAD..HEAD + name_size.checked_sub(1)?)?;
    let data = (HEAD + name_size).next_multiple_of(4);
    let contents = head.get(data..data.checked_add(size)?)?;
    Some((
        String::from_utf8_lossy(name).into_owned(),
        contents,
        (data + size).next_multiple_of(4).min(head.len()),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn archive(files: &[(&str, &[u8])]) -> Vec<u8> {
        let mut out = Vec::new();
        for (name, contents) in files.iter().chain([&("TRAILER!!!", &b""[..])]) {
            let fields = [0, 0, 0, 0, 1, 0, contents.len(), 0, 0, 0, 0, name.len() + 1, 0];
            out.extend(b"070701");
            out.extend(fields.iter().flat_map(|field| format!("{field:08x}").into_bytes()));
            out.extend(name.as_bytes());
            out.push(0);
            out.resize(out.len().next_multiple_of(4), 0);
            out.extend(*contents);
            out.resize(out.len().next_multiple_of(4), 0);
        }
        out
    }

    #[test]
    fn files_of_all_archives_are_found() {
        let mut bytes = archive(&[("kernel/x86/microcode", b"abc")]);
        bytes.resize(bytes.len() + 512, 0);
        bytes.extend(archive(&[
            ("lib/ccp.ko", b"one"),
            ("lib/ccp.ko.txt", b"no"),
            ("updates/ccp.ko.xz", b"three"),
        ]));
        let end = bytes.len();
        bytes.extend([0x28, 0xb5, 0x2f, 0xfd]);
        let mut found = Vec::new();
        assert_eq!(entries(&bytes, "/ccp.ko", &mut found), Ok(end));
        assert_eq!(
            found,
            [
                ("lib/ccp.ko".into(), b"one".to_vec()),
                ("updates/ccp.ko.xz".into(), b"three".to_vec())
            ]
        );
    }

    #[test]
    fn what_is_cut_off_is_an_error() {
        let bytes = archive(&[("lib/ccp.ko", &[7; 100])]);
        for length in [7, HEAD, HEAD + 5, HEAD + 60] {
            assert!(entries(&bytes[..length], "/ccp.ko", &mut Vec::new()).is_err(), "{length}");
        }
    }
}
