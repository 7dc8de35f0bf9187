// SPDX-License-Identifier: GPL-2.0

//! What the file says after what was told. The tests share the one record with the module, so they
//! begin with no PSP, end with none, and compare counts with those before.

use kernel::macros::kunit_tests;

#[kunit_tests(ccp_state)]
mod suite {
    use super::super::*;
    use crate::{
        cmd::Channel,
        testing::{
            check,
            device,
            script::{
                silence,
                Call,
                FakeHost,
                Scripted, //
            }, //
        },
        wire::command, //
    };
    use kernel::str::CString;

    struct Shown;

    impl fmt::Display for Shown {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            KNOWN.lock().show(f)
        }
    }

    /// All that the file says of firmware.
    fn shown() -> Result<CString> {
        CString::try_from_fmt(fmt!("{Shown}"))
    }

    fn says(line: &str) -> Result<bool> {
        let text = shown()?;
        let text = text.to_str().map_err(|_| EINVAL)?;
        let found = text.lines().any(|other| other == line);
        if !found {
            pr_err!("no line '{line}' in:\n{text}");
        }
        Ok(found)
    }

    /// The same with a time of a second or less in place of the `#`.
    fn says_just_now(line: &str) -> Result<bool> {
        let (before, after) = line.split_once('#').ok_or(EINVAL)?;
        let text = shown()?;
        let text = text.to_str().map_err(|_| EINVAL)?;
        let found = text.lines().any(|other| {
            let middle = other
                .strip_prefix(before)
                .and_then(|rest| rest.strip_suffix(after));
            matches!(middle, Some("0" | "1"))
        });
        if !found {
            pr_err!("no line '{line}' in:\n{text}");
        }
        Ok(found)
    }

    fn counts() -> Counts {
        KNOWN.lock().counts
    }

    /// No two values are the same.
    const FIRMWARE: Firmware = Firmware {
        snp: "up",
        sev: "stale",
        api: ApiVersion {
            major: 1,
            minor: 58,
            build: 39,
        },
        features: FeatureInfo {
            eax: 0x11,
            ebx: 0x22,
            ecx: 0x33,
            edx: 0x44,
        },
        guests: 3,
        dead: None,
    };

    #[test]
    fn each_value_has_its_line() -> Result {
        detached();
        let (_faux, dev) = device()?;
        firmware(&dev, FIRMWARE, |_| true);
        for line in [
            "PSP: ccp-test",
            "SNP: up",
            "SEV: stale",
            "firmware: 1.58.39",
            "TCB: not asked for",
            "features: EBX 0x22, ECX 0x33",
            "SNP guests: 3",
            "ASIDs of SNP guests:",
            "ASIDs of SEV guests:",
            "mailbox: idle",
        ] {
            check!(says(line)?, "{line}");
        }
        status(SnpStatus {
            current_tcb: 0x1234,
            reported_tcb: 0x5678,
            ..SnpStatus::default()
        });
        check!(says_just_now(
            "TCB: current 0x0000000000001234, reported 0x0000000000005678, # s ago; firmware tells the committed one to guests alone"
        )?);
        // What is told later takes the place of what was told before.
        let later = Firmware {
            snp: "down",
            sev: "up",
            guests: 0,
            dead: Some(Dead::Gone { command: "INIT" }),
            ..FIRMWARE
        };
        firmware(&dev, later, |_| true);
        for line in [
            "SNP: down",
            "SEV: up",
            "SNP guests: 0",
            "mailbox: dead, the registers read all ones during INIT",
        ] {
            check!(says(line)?, "{line}");
        }
        detached();
        Ok(())
    }

    #[test]
    fn asids_are_for_kinds_of_guests() -> Result {
        for (last, first_sev, words) in [
            (0, 0, "none"),
            (15, 0, "1 to 15 for SEV guests"),
            (15, 1, "1 to 15 for SEV guests"),
            (
                15,
                2,
                "1 to 1 for SNP and SEV-ES guests, 2 to 15 for SEV guests",
            ),
            (
                15,
                15,
                "1 to 14 for SNP and SEV-ES guests, 15 to 15 for SEV guests",
            ),
            (15, 16, "1 to 15 for SNP and SEV-ES guests"),
        ] {
            let said = CString::try_from_fmt(fmt!("{}", Asids { last, first_sev }))?;
            check!(said.to_bytes() == words.as_bytes(), "{words}");
        }
        Ok(())
    }

    #[test]
    fn commands_are_counted_by_how_they_end() -> Result {
        detached();
        let (_faux, dev) = device()?;
        firmware(&dev, FIRMWARE, |_| true);
        let (init, shutdown) = (command::INIT.info(), command::SHUTDOWN.info());
        let died = Dead::Silent {
            command: init.name,
            secs: 5,
        };
        let before = counts();
        issued(init);
        check!(says_just_now("mailbox: INIT, for # s")?);
        ended(init, Ok(Status::SUCCESS));
        check!(says("mailbox: idle")?);
        let mut expected = Counts {
            issued: before.issued + 1,
            ..before
        };
        check!(counts() == expected);

        issued(shutdown);
        ended(shutdown, Ok(Status::RESOURCE_LIMIT));
        expected.issued += 1;
        expected.refused += 1;
        check!(counts() == expected && says("mailbox: idle")?);
        let error = CmdError::Firmware(Status::RESOURCE_LIMIT).of(shutdown.id);
        let text = CString::try_from_fmt(fmt!("last error: SHUTDOWN: {error}, # s ago"))?;
        check!(says_just_now(text.to_str().map_err(|_| EINVAL)?)?);

        issued(init);
        ended(init, Err(CmdError::Died(died)));
        expected.issued += 1;
        expected.unanswered += 1;
        check!(counts() == expected);
        check!(says_just_now(
            "last error: INIT: firmware did not answer INIT within 5 s, # s ago"
        )?);
        // A success does not make it forgotten, nor does the end of the PSP.
        issued(shutdown);
        ended(shutdown, Ok(Status::SUCCESS));
        detached();
        check!(says_just_now(
            "last error: INIT: firmware did not answer INIT within 5 s, # s ago"
        )?);
        let Counts {
            issued,
            refused,
            unanswered,
        } = counts();
        check!(
            (issued, refused, unanswered)
                == (before.issued + 4, before.refused + 1, before.unanswered + 1)
        );
        let text = CString::try_from_fmt(fmt!(
            "commands: {issued} issued, {refused} refused, {unanswered} not answered"
        ))?;
        check!(says(text.to_str().map_err(|_| EINVAL)?)?);
        Ok(())
    }

    /// A command is told of before firmware gets it, and its end when the answer is there.
    #[test]
    fn commands_of_the_driver_are_told_of() -> Result {
        static HOST: FakeHost = FakeHost::new();
        detached();
        let (_faux, dev) = device()?;
        firmware(&dev, FIRMWARE, |_| true);
        let before = counts();
        let answers = [
            Ok(Status::SUCCESS),
            Ok(Status::INVALID_PARAM),
            silence(command::DF_FLUSH.info()),
        ];
        let mut n = 0;
        let script = |_: &Call| {
            let answer = *answers.get(n).ok_or(CmdError::Transport(EINVAL))?;
            n += 1;
            let told = says_just_now("mailbox: DF_FLUSH, for # s").map_err(CmdError::Transport)?;
            let counted = counts().issued == before.issued + n as u64;
            match told && counted {
                true => answer,
                false => Err(CmdError::Transport(EPERM)),
            }
        };
        let mut channel = Channel::new(dev.clone(), Scripted::new(script), &HOST)?;
        for expected in answers {
            let result = channel.issue(command::DF_FLUSH, &mut ());
            check!(
                result == expected.and_then(status_as_result),
                "{:?}",
                result
            );
            check!(says("mailbox: idle")?);
        }
        // A dead mailbox is given nothing.
        check!(channel.issue(command::DF_FLUSH, &mut ()).is_err());
        let expected = Counts {
            issued: before.issued + 3,
            refused: before.refused + 1,
            unanswered: before.unanswered + 1,
        };
        check!(counts() == expected);
        detached();
        Ok(())
    }

    fn status_as_result(status: Status) -> Result<(), CmdError> {
        match status {
            Status::SUCCESS => Ok(()),
            status => Err(CmdError::Firmware(status)),
        }
    }

    #[test]
    fn guests_have_asids_for_as_long_as_firmware_keeps_them() -> Result {
        detached();
        let (_faux, dev) = device()?;
        bound(5, Guest::Snp(0x1000));
        bound(9, Guest::Sev(1));
        bound(6, Guest::Snp(0x2000));
        firmware(&dev, FIRMWARE, |_| true);
        check!(says("ASIDs of SNP guests: 5 6")? && says("ASIDs of SEV guests: 9")?);
        // Another ASID for the same guest, and a handle that is the number of a context.
        bound(7, Guest::Snp(0x1000));
        bound(8, Guest::Sev(0x2000));
        check!(says("ASIDs of SNP guests: 6 7")? && says("ASIDs of SEV guests: 9 8")?);
        unbound(Guest::Snp(0x2000));
        unbound(Guest::Sev(1));
        check!(says("ASIDs of SNP guests: 7")? && says("ASIDs of SEV guests: 8")?);
        firmware(&dev, FIRMWARE, |guest| matches!(guest, Guest::Sev(_)));
        check!(says("ASIDs of SNP guests:")? && says("ASIDs of SEV guests: 8")?);
        bound(5, Guest::Snp(0x1000));
        firmware(&dev, FIRMWARE, |guest| matches!(guest, Guest::Snp(_)));
        check!(says("ASIDs of SNP guests: 5")? && says("ASIDs of SEV guests:")?);
        detached();
        Ok(())
    }

    #[test]
    fn nothing_of_a_psp_that_is_gone_is_left() -> Result {
        detached();
        let (_faux, dev) = device()?;
        firmware(&dev, FIRMWARE, |_| true);
        status(SnpStatus::default());
        bound(5, Guest::Snp(0x1000));
        bound(9, Guest::Sev(1));
        detached();
        check!(says("PSP: none")? && says("mailbox: idle")?);
        let text = shown()?;
        let text = text.to_str().map_err(|_| EINVAL)?;
        check!(text.lines().count() == 4);
        // The next one is told nothing of its guests.
        firmware(&dev, FIRMWARE, |_| true);
        check!(says("ASIDs of SNP guests:")? && says("ASIDs of SEV guests:")?);
        check!(says("TCB: not asked for")?);
        detached();
        Ok(())
    }
}
