// SPDX-License-Identifier: GPL-2.0

//! Every state with every event.

use super::*;

const HOLDS: [Hold; 12] = [
    Hold::FoundAtLoad,
    Hold::LegacyShutdown,
    Hold::ShutdownFailed,
    Hold::Timeout,
    Hold::MailboxDead,
    Hold::HardwareError,
    Hold::RmpInitFailed,
    Hold::RmpNotZero,
    Hold::RmpUnreadable,
    Hold::Uneven,
    Hold::StillEnabled,
    Hold::Undecided,
];
const SNP_EN: [SnpEn; 3] = [SnpEn::Nowhere, SnpEn::Somewhere, SnpEn::Everywhere];
const RMP: [Rmp; 3] = [Rmp::Zero, Rmp::NotZero, Rmp::Unreadable];

fn windows() -> Vec<Window> {
    [Window::Closed, Window::Preparing, Window::Enabled]
        .into_iter()
        .chain(HOLDS.map(Window::Held))
        .collect()
}

fn events() -> Vec<Event> {
    let mut events = vec![Event::Open, Event::Prepared];
    events.extend(HOLDS.map(Event::Keep));
    for en in SNP_EN {
        events.extend([
            Event::Found(en),
            Event::NotPrepared(en),
            Event::CloseSnpOff(en),
        ]);
        events.extend(RMP.map(|rmp| Event::CloseInitRefused(en, rmp)));
    }
    events
}

/// What an event says about the hardware, if it says anything.
fn measured(event: Event) -> Option<SnpEn> {
    match event {
        Event::Found(en)
        | Event::NotPrepared(en)
        | Event::CloseSnpOff(en)
        | Event::CloseInitRefused(en, _) => Some(en),
        Event::Open | Event::Prepared | Event::Keep(_) => None,
    }
}

#[test]
fn the_counter_is_one_while_open_and_zero_while_closed() {
    for window in windows() {
        for event in events() {
            let step = window.step(event);
            let before = i32::from(window.is_open());
            let after = before
                + match step.count {
                    Count::Disable => 1,
                    Count::Enable => -1,
                    Count::Leave => 0,
                };
            assert_eq!(
                after,
                i32::from(step.next.is_open()),
                "{window:?} {event:?}"
            );
        }
    }
}

#[test]
fn with_snp_en_set_it_closes_only_after_a_refusal_with_a_zero_rmp() {
    for window in windows() {
        for event in events() {
            let closes = window.is_open() && !window.step(event).next.is_open();
            if !closes {
                continue;
            }
            let off = measured(event) == Some(SnpEn::Nowhere);
            let refused =
                window == Window::Enabled && matches!(event, Event::CloseInitRefused(_, Rmp::Zero));
            assert!(off || refused, "{window:?} {event:?}");
        }
    }
}

#[test]
fn it_opens_only_for_a_prepare_or_for_what_was_found() {
    for event in events() {
        let opens = Window::Closed.step(event).next.is_open();
        let may = event == Event::Open
            || matches!(event, Event::Found(SnpEn::Somewhere | SnpEn::Everywhere));
        assert_eq!(opens, may, "{event:?}");
    }
}

#[test]
fn enabled_is_only_reached_when_all_cpus_were_prepared() {
    for window in windows() {
        for event in events() {
            if window.step(event).next == Window::Enabled && window != Window::Enabled {
                assert_eq!(event, Event::Prepared, "{window:?}");
            }
        }
    }
}

#[test]
fn snp_off_on_all_cpus_always_closes() {
    for window in windows() {
        let step = window.step(Event::CloseSnpOff(SnpEn::Nowhere));
        assert_eq!(
            (step.next, step.answer),
            (Window::Closed, Answer::Done),
            "{window:?}"
        );
    }
}

#[test]
fn done_means_what_was_asked_for() {
    for window in windows() {
        for event in events() {
            let step = window.step(event);
            if step.answer != Answer::Done {
                continue;
            }
            match event {
                Event::Open => assert!(step.next.is_open(), "{window:?}"),
                Event::Prepared => assert_eq!(step.next, Window::Enabled, "{window:?}"),
                Event::NotPrepared(_) => panic!("nothing is done: {window:?}"),
                Event::CloseSnpOff(_) | Event::CloseInitRefused(..) => {
                    assert_eq!(step.next, Window::Closed, "{window:?} {event:?}")
                }
                Event::Keep(_) => panic!("a window that is kept is not done: {window:?}"),
                Event::Found(_) => (),
            }
        }
    }
}

#[test]
fn opening_an_open_window_keeps_its_reason() {
    for why in HOLDS {
        assert_eq!(Window::Held(why).step(Event::Open).next, Window::Held(why));
        assert_eq!(
            Window::Held(why).step(Event::Keep(Hold::Undecided)).next,
            Window::Held(why)
        );
    }
}

/// Every sequence of four events from `Closed`: the sum of all counter changes is 0 or 1 at any
/// time. (The step-wise test above implies it; this one does not trust the implication.)
#[test]
fn no_sequence_stacks_or_underflows() {
    fn walk(window: Window, count: i32, depth: usize, events: &[Event]) {
        assert_eq!(count, i32::from(window.is_open()));
        if depth == 0 {
            return;
        }
        for &event in events {
            let step = window.step(event);
            let change = match step.count {
                Count::Disable => 1,
                Count::Enable => -1,
                Count::Leave => 0,
            };
            walk(step.next, count + change, depth - 1, events);
        }
    }
    walk(Window::Closed, 0, 4, &events());
}

#[test]
fn reload_on_firmware_without_x86_shutdown() {
    let mut window = Window::Closed;
    let mut disables = 0;
    for _ in 0..10 {
        for event in [
            Event::Open,
            Event::Prepared,
            Event::Keep(Hold::LegacyShutdown),
        ] {
            let step = window.step(event);
            disables += i32::from(step.count == Count::Disable);
            assert_ne!(step.count, Count::Enable);
            window = step.next;
        }
    }
    assert_eq!((window, disables), (Window::Held(Hold::LegacyShutdown), 1));
}

#[test]
fn every_reason_says_something_of_its_own() {
    let mut texts = HOLDS.map(Hold::text).to_vec();
    texts.sort();
    texts.dedup();
    assert_eq!(texts.len(), HOLDS.len());
}

#[test]
fn uneven_cpus_are_told_apart_from_prepared_ones() {
    let found = |en| Window::Closed.step(Event::Found(en)).next;
    assert_eq!(found(SnpEn::Nowhere), Window::Closed);
    assert_eq!(found(SnpEn::Somewhere), Window::Held(Hold::Uneven));
    assert_eq!(found(SnpEn::Everywhere), Window::Held(Hold::FoundAtLoad));
    for window in windows().into_iter().filter(|window| window.is_open()) {
        let step = window.step(Event::NotPrepared(SnpEn::Somewhere));
        assert_eq!(step.next, Window::Held(Hold::Uneven), "{window:?}");
    }
}

#[test]
fn a_prepare_that_failed_before_snp_en_was_written_can_be_closed() {
    let step = Window::Preparing.step(Event::NotPrepared(SnpEn::Nowhere));
    assert_eq!(step.next, Window::Preparing);
    let step = step.next.step(Event::CloseSnpOff(SnpEn::Nowhere));
    assert_eq!((step.next, step.count), (Window::Closed, Count::Enable));
}

#[test]
fn an_rmp_that_was_used_is_cleared_and_no_other() {
    assert!(!Window::Closed.leaves_an_rmp() && !Window::Preparing.leaves_an_rmp());
    for window in windows() {
        let used = window.is_open() && window != Window::Preparing;
        assert_eq!(window.leaves_an_rmp(), used, "{window:?}");
    }
}
