// SPDX-License-Identifier: GPL-2.0

//! Every state with every event.

use super::*;

/// Every reason of the header: those that this module has words for, up to the first that it has
/// none for.
fn holds() -> Vec<snp_host_keep> {
    let undecided = reason(snp_host_keep::SNP_HOST_KEEP_UNDECIDED);
    let known = |why: &snp_host_keep| {
        *why == snp_host_keep::SNP_HOST_KEEP_UNDECIDED || reason(*why) != undecided
    };
    (1..).map(snp_host_keep).take_while(known).collect()
}
const SNP_EN: [SnpEn; 3] = [SnpEn::Nowhere, SnpEn::Somewhere, SnpEn::Everywhere];
const RMP: [Rmp; 3] = [Rmp::Zero, Rmp::NotZero, Rmp::Unreadable];

fn windows() -> Vec<Window> {
    [Window::Closed, Window::Preparing, Window::Enabled]
        .into_iter()
        .chain(holds().into_iter().map(Window::Held))
        .collect()
}

fn events() -> Vec<Event> {
    let mut events = vec![Event::Open, Event::Prepared];
    events.extend(holds().into_iter().map(Event::Keep));
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
fn with_snp_en_set_it_closes_only_after_a_refusal_with_a_zero_rmp() {
    for window in windows() {
        for event in events() {
            let closes = window.is_open() && !window.step(event).is_open();
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
        let opens = Window::Closed.step(event).is_open();
        let may = event == Event::Open
            || matches!(event, Event::Found(SnpEn::Somewhere | SnpEn::Everywhere));
        assert_eq!(opens, may, "{event:?}");
    }
}

#[test]
fn enabled_is_only_reached_when_all_cpus_were_prepared() {
    for window in windows() {
        for event in events() {
            if window.step(event) == Window::Enabled && window != Window::Enabled {
                assert_eq!(event, Event::Prepared, "{window:?}");
            }
        }
    }
}

#[test]
fn snp_off_on_all_cpus_always_closes() {
    for window in windows() {
        let next = window.step(Event::CloseSnpOff(SnpEn::Nowhere));
        assert_eq!(next, Window::Closed, "{window:?}");
    }
}

/// In an open window. A closed one is opened by
/// [`it_opens_only_for_a_prepare_or_for_what_was_found`].
#[test]
fn each_event_leads_where_it_says() {
    for window in windows().into_iter().filter(|window| window.is_open()) {
        for event in events() {
            let next = window.step(event);
            let right = match event {
                Event::Open | Event::Found(_) => next == window,
                Event::Prepared => next == Window::Enabled,
                Event::NotPrepared(SnpEn::Somewhere) => {
                    next == Window::Held(snp_host_keep::SNP_HOST_KEEP_SOME_CPUS)
                }
                Event::NotPrepared(_) => next == window,
                Event::CloseSnpOff(SnpEn::Nowhere) | Event::CloseInitRefused(SnpEn::Nowhere, _) => {
                    next == Window::Closed
                }
                Event::CloseInitRefused(_, rmp) if window == Window::Enabled => {
                    next == after_refusal(rmp)
                }
                // The first reason stays.
                Event::CloseSnpOff(_) | Event::CloseInitRefused(..) => match window {
                    Window::Held(_) => next == window,
                    _ => next == Window::Held(snp_host_keep::SNP_HOST_KEEP_STILL_ENABLED),
                },
                Event::Keep(why) => {
                    next == Window::Held(why)
                        || why == snp_host_keep::SNP_HOST_KEEP_UNDECIDED && next == window
                }
            };
            assert!(right, "{window:?} {event:?}: {next:?}");
        }
    }
}

#[test]
fn opening_an_open_window_keeps_its_reason() {
    for why in holds() {
        let held = Window::Held(why);
        assert_eq!(held.step(Event::Open), held);
        let undecided = Event::Keep(snp_host_keep::SNP_HOST_KEEP_UNDECIDED);
        assert_eq!(held.step(undecided), held);
    }
}

#[test]
fn undecided_is_a_reason_where_there_is_none_yet() {
    let undecided = snp_host_keep::SNP_HOST_KEEP_UNDECIDED;
    for window in [Window::Preparing, Window::Enabled] {
        let next = window.step(Event::Keep(undecided));
        assert_eq!(next, Window::Held(undecided));
    }
}

/// Whatever happens in ten reloads, hotplug is disabled once and never enabled.
#[test]
fn reload_on_firmware_without_x86_shutdown() {
    let legacy = snp_host_keep::SNP_HOST_KEEP_LEGACY_SHUTDOWN;
    let mut window = Window::Closed;
    let mut disables = 0;
    for _ in 0..10 {
        for event in [Event::Open, Event::Prepared, Event::Keep(legacy)] {
            let next = window.step(event);
            disables += i32::from(next.is_open() && !window.is_open());
            assert!(next.is_open());
            window = next;
        }
    }
    assert_eq!((window, disables), (Window::Held(legacy), 1));
}

#[test]
fn every_reason_says_something_of_its_own() {
    let holds = holds();
    assert_eq!(
        holds.last(),
        Some(&snp_host_keep::SNP_HOST_KEEP_RMP_UNREADABLE),
        "the last one of the header"
    );
    let mut texts: Vec<_> = holds.iter().map(|why| reason(*why)).collect();
    texts.sort();
    texts.dedup();
    assert_eq!(texts.len(), holds.len());
}

#[test]
fn uneven_cpus_are_told_apart_from_prepared_ones() {
    let found = |en| Window::Closed.step(Event::Found(en));
    let some = Window::Held(snp_host_keep::SNP_HOST_KEEP_SOME_CPUS);
    assert_eq!(found(SnpEn::Nowhere), Window::Closed);
    assert_eq!(found(SnpEn::Somewhere), some);
    assert_eq!(
        found(SnpEn::Everywhere),
        Window::Held(snp_host_keep::SNP_HOST_KEEP_FOUND_AT_LOAD)
    );
    for window in windows().into_iter().filter(|window| window.is_open()) {
        let next = window.step(Event::NotPrepared(SnpEn::Somewhere));
        assert_eq!(next, some, "{window:?}");
    }
}

/// What firmware's refusal of SNP_INIT makes of a window in which all CPUs were prepared.
fn after_refusal(rmp: Rmp) -> Window {
    match rmp {
        Rmp::Zero => Window::Closed,
        Rmp::NotZero => Window::Held(snp_host_keep::SNP_HOST_KEEP_RMP_NOT_ZERO),
        Rmp::Unreadable => Window::Held(snp_host_keep::SNP_HOST_KEEP_RMP_UNREADABLE),
    }
}

#[test]
fn a_prepare_that_failed_before_snp_en_was_written_can_be_closed() {
    let next = Window::Preparing.step(Event::NotPrepared(SnpEn::Nowhere));
    assert_eq!(next, Window::Preparing);
    let next = next.step(Event::CloseSnpOff(SnpEn::Nowhere));
    assert_eq!(next, Window::Closed);
}

#[test]
fn an_rmp_that_was_used_is_cleared_and_no_other() {
    assert!(!Window::Closed.needs_snp_shutdown() && !Window::Preparing.needs_snp_shutdown());
    for window in windows() {
        let used = window.is_open() && window != Window::Preparing;
        assert_eq!(window.needs_snp_shutdown(), used, "{window:?}");
    }
}
