// SPDX-License-Identifier: GPL-2.0
//! pspd through its real socket: registers, DMA, interrupts, trace, faults, how it starts and ends.

mod common;

use std::process::Command;
use std::sync::atomic::Ordering;
use std::time::Duration;

use common::{Machine, BUFFER, RMP_BASE};
use serde_json::json;

const PLATFORM_STATUS: u32 = 0x04;
const GET_ID: u32 = 0x0c;
const SNP_PLATFORM_STATUS: u32 = 0x83;
const SNP_DF_FLUSH: u32 = 0x84;
const SNP_INIT_EX: u32 = 0x85;
const SNP_SHUTDOWN_EX: u32 = 0x86;
const SNP_GCTX_CREATE: u32 = 0x93;

const OUT: u64 = 0x2_0000;
const GCTX: u64 = 0x3_0000;

/// What RMPUPDATE writes for a Firmware page, in the raw layout.
const FIRMWARE: u64 = 0b101;

fn entry(page: u64) -> u64 {
    RMP_BASE + 0x4000 + (page >> 12) * 16
}

fn init_ex() -> [u8; 64] {
    let mut buffer = [0; 64];
    buffer[0] = 1;
    buffer
}

fn address(pa: u64) -> [u8; 8] {
    pa.to_le_bytes()
}

#[test]
fn platform_status_comes_back_with_one_interrupt() {
    let mut machine = Machine::start(&["--api", "1.52.4"]);
    machine.enable_interrupts();
    assert_eq!(machine.command(PLATFORM_STATUS, &[0; 12]), 0);
    assert_eq!(machine.peek(BUFFER, 12), [1, 52, 0, 0, 0, 0, 0, 4, 0, 0, 0, 0]);
    assert_eq!(machine.interrupts(), (1, 2));
    assert_eq!(machine.interrupts(), (0, 0));
    let trace = machine.trace();
    let line = trace.last().unwrap();
    assert_eq!(line["cmd"], "PLATFORM_STATUS");
    assert_eq!(line["buf"], "00".repeat(12));
    assert_eq!(line["out"], "013400000000000400000000");
    assert_eq!(line["status_name"], "SUCCESS");
    assert_eq!(line["mmio_writes"], 5, "INTSTS, INTEN, lo, hi, CMDRESP");
    assert!(machine.disconnect().success());
}

#[test]
fn snp_starts_and_stops() {
    let mut machine = Machine::start(&[]);
    assert_eq!(machine.command(SNP_INIT_EX, &init_ex()), 0x03, "nothing is prepared");
    assert_eq!(machine.trace().last().unwrap()["wrong"], "no CPU known");
    machine.prepare();
    assert_eq!(machine.command(SNP_INIT_EX, &init_ex()), 0);
    let taken = machine.link.pages_taken.load(std::sync::atomic::Ordering::Acquire);
    assert_eq!(taken, 1, "CPUs hear that pages are not the host's any more");
    // The table takes 256 pages: the first is the head of 2 MiB and counts the others. So it is on
    // a real machine (AMDSEV issue 245).
    let (head, other) = (0x8000_0000_0000_07fd, 0x8000_0000_0000_0005u64);
    assert_eq!(machine.peek(entry(RMP_BASE), 8), u64::to_le_bytes(head));
    assert_eq!(machine.peek(entry(RMP_BASE + 0x13000), 8), other.to_le_bytes());
    assert_eq!(machine.command(SNP_DF_FLUSH, &[]), 0x0e);
    machine.wbinvd();
    assert_eq!(machine.command(SNP_DF_FLUSH, &[]), 0);

    assert_eq!(machine.command(SNP_PLATFORM_STATUS, &address(OUT)), 0x1a);
    assert_eq!(machine.trace().last().unwrap()["page_state"], "hypervisor");
    machine.poke(entry(OUT), &FIRMWARE.to_le_bytes());
    machine.poke(entry(GCTX), &FIRMWARE.to_le_bytes());
    assert_eq!(machine.command(SNP_PLATFORM_STATUS, &address(OUT)), 0);
    assert_eq!(machine.peek(OUT, 4), [1, 55, 1, 3]);
    assert_eq!(machine.peek(entry(OUT), 8), address(1), "Reclaim");
    assert_eq!(machine.command(SNP_GCTX_CREATE, &address(GCTX)), 0);

    let scan = machine.scan();
    assert_eq!(scan["assigned"], 2);
    assert_eq!(scan["states"]["context"], 1);
    assert_eq!(scan["states"]["reclaim"], 1);
    assert_eq!(scan["states"]["rmp-table"], 256);
    assert_eq!(scan["cpus_with_snp_en"], json!([0, 1]));

    let shutdown = [8, 0, 0, 0, 3, 0, 0, 0];
    assert_eq!(machine.command(SNP_SHUTDOWN_EX, &shutdown), 0);
    assert!(machine.link.present().all(|cpu| cpu.syscfg.load(Ordering::Acquire) == 1 << 19));
    let scan = machine.scan();
    assert_eq!(scan["states"]["rmp-table"], 0);
    assert_eq!(scan["cpus_with_snp_en"], json!([]));
    assert_eq!(scan["nonzero"], 2, "Firmware and Reclaim pages are the host's to clear");
}

#[test]
fn memory_that_is_unmapped_is_no_ram() {
    let mut machine = Machine::start(&[]);
    machine.client().dma_unmap(0, common::RAM).unwrap();
    assert_eq!(machine.command(PLATFORM_STATUS, &[0; 12]), 0x09);
}

#[test]
fn faults_are_as_asked() {
    let short = Duration::from_millis(300);

    let mut machine = Machine::start(&["--fault", "PLATFORM_STATUS@2:status=HWERROR_UNSAFE"]);
    assert_eq!([(); 3].map(|()| machine.command(PLATFORM_STATUS, &[0; 12])), [0, 0x14, 0]);
    let trace = machine.trace();
    assert_eq!(trace[trace.len() - 2]["fault"][0], "PLATFORM_STATUS@2:status=HWERROR_UNSAFE");

    let mut machine = Machine::start(&["--fault", "0x4@1:silent"]);
    machine.ring(PLATFORM_STATUS, &[0; 12]);
    assert_eq!(machine.answer(short), None);
    assert_eq!(machine.command(PLATFORM_STATUS, &[0; 12]), 0, "the next one is answered");
    let trace = machine.trace();
    assert!(trace.iter().any(|line| line["event"] == "doorbell while busy"));

    // Executed after the time, or at once; answered after the time in both cases.
    let mut machine = Machine::start(&["--fault", "*:delay=1000"]);
    machine.ring(PLATFORM_STATUS, &[0; 12]);
    assert_eq!(machine.answer(short), None);
    assert_eq!(machine.peek(BUFFER, 1), [0]);
    assert_eq!(machine.answer(Duration::from_secs(10)), Some(0));
    let mut machine = Machine::start(&["--fault", "*:late=2000"]);
    machine.ring(PLATFORM_STATUS, &[0; 12]);
    while machine.peek(BUFFER, 1) != [1] {
        std::thread::sleep(Duration::from_millis(1));
    }
    assert_eq!(machine.answer(short), None);
    assert_eq!(machine.answer(Duration::from_secs(10)), Some(0));

    let mut machine = Machine::start(&["--fault", "PLATFORM_STATUS:partial"]);
    assert_eq!(machine.command(PLATFORM_STATUS, &[0; 12]), 0);
    assert_eq!(machine.peek(BUFFER, 12), [1, 55, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);

    let mut machine = Machine::start(&["--fault", "GET_ID:garbage"]);
    let query: Vec<u8> = [address(OUT).as_slice(), &64u32.to_le_bytes()].concat();
    assert_eq!(machine.command(GET_ID, &query), 0);
    assert_eq!(machine.peek(BUFFER + 8, 4), [0xff; 4]);

    let mut machine = Machine::start(&["--fault", "*@2:allones"]);
    assert_eq!(machine.command(PLATFORM_STATUS, &[0; 12]), 0);
    machine.ring(PLATFORM_STATUS, &[0; 12]);
    // All ones have bit 31 set, so polling ends, with the status that all ones spell.
    assert_eq!(machine.answer(Duration::from_secs(5)), Some(0xffff));
    assert_eq!(machine.read(0x109fc), u32::MAX);

    let mut machine = Machine::start(&["--fault", "start:allones"]);
    assert_eq!(machine.read(0x109fc), u32::MAX);

    let mut machine = Machine::start(&["--fault", "*:status=0x9000"]);
    assert_eq!(machine.command(PLATFORM_STATUS, &[0; 12]), 0x9000);
    let line = machine.trace().pop().unwrap();
    assert_eq!((&line["status"], &line["status_name"]), (&0x9000.into(), &"0x9000".into()));

    let mut machine = Machine::start(&["--fault", "PLATFORM_STATUS:gone"]);
    machine.ring_and_go(PLATFORM_STATUS, &[0; 12]);
    assert!(machine.wait().success());
    assert_eq!(machine.trace().last().unwrap()["event"], "device gone");
}

#[test]
fn orders_are_obeyed_while_it_runs() {
    let mut machine = Machine::start(&["--control", "ctl.sock", "--fault", "*:status=1"]);
    assert_eq!(machine.command(PLATFORM_STATUS, &[0; 12]), 1);
    assert_eq!(machine.order("mark a case"), "ok");
    let mark = machine.trace().pop().unwrap();
    assert_eq!((&mark["event"], &mark["text"]), (&"mark".into(), &"a case".into()));
    assert_eq!(
        (&mark["rmpupdate"], &mark["psmash"], &mark["wbinvd"]),
        (&0.into(), &0.into(), &0.into())
    );

    // A mark ends what is counted for a command, and the CPUs' counts go on.
    machine.prepare();
    for cpu in &machine.link.cpu[..2] {
        cpu.rmpupdate.fetch_add(3, Ordering::AcqRel);
        cpu.psmash.fetch_add(1, Ordering::AcqRel);
    }
    machine.read(0x109fc);
    assert_eq!(machine.order("mark two"), "ok");
    assert_eq!(machine.order("mark three"), "ok");
    let trace = machine.trace();
    for (mark, reads) in trace[trace.len() - 2..].iter().zip([1, 0]) {
        for (count, expected) in [("mmio_reads", reads), ("rmpupdate", 6), ("psmash", 2)] {
            assert_eq!(mark[count], expected, "{mark}");
        }
    }

    // Replaced, and counted from then on.
    assert_eq!(machine.order("fault PLATFORM_STATUS@2:status=3 SNP_DF_FLUSH:status=0x9000"), "ok");
    assert_eq!([(); 3].map(|()| machine.command(PLATFORM_STATUS, &[0; 12])), [0, 3, 0]);
    assert_eq!(machine.command(SNP_DF_FLUSH, &[]), 0x9000);

    // What is not understood changes nothing.
    for order in ["fault PLATFORM_STATUS:explode", "explode", "clear all"] {
        assert!(machine.order(order).starts_with("error "), "{order}");
    }
    assert_eq!(machine.command(SNP_DF_FLUSH, &[]), 0x9000);

    assert_eq!(machine.order("pending"), "ok");
    assert_eq!(machine.order("fault PLATFORM_STATUS@1:silent"), "ok");
    machine.ring(PLATFORM_STATUS, &[0; 12]);
    assert_eq!(machine.answer(Duration::from_millis(100)), None);
    let pending = machine.order("pending");
    let words: Vec<&str> = pending.split(' ').collect();
    assert_eq!(words[..2], ["ok", "PLATFORM_STATUS"]);
    assert!(words[2].parse::<u64>().unwrap() >= 100, "{pending}");
    assert_eq!(machine.command(PLATFORM_STATUS, &[0; 12]), 0);
    assert_eq!(machine.order("pending"), "ok");

    // What is silent is answered in the end, and its interrupt comes then.
    machine.enable_interrupts();
    machine.interrupts();
    assert_eq!(machine.order("fault PLATFORM_STATUS@1:silent"), "ok");
    machine.ring(PLATFORM_STATUS, &[0; 12]);
    assert_eq!(machine.answer(Duration::from_millis(100)), None);
    assert_eq!(machine.interrupts(), (0, 0));
    assert_eq!(machine.order("clear"), "ok");
    assert_eq!(machine.answer(Duration::from_secs(5)), Some(0x17));
    assert_eq!(machine.interrupts(), (1, 2));
    assert_eq!(machine.order("pending"), "ok");
    assert_eq!(machine.order("clear"), "ok");
    assert_eq!(machine.interrupts(), (0, 0), "once");

    // An interrupt that is lost is pending all the same.
    assert_eq!(machine.order("fault PLATFORM_STATUS@1:no-irq"), "ok");
    assert_eq!([(); 2].map(|()| machine.command(PLATFORM_STATUS, &[0; 12])), [0, 0]);
    assert_eq!(machine.interrupts(), (1, 2));

    // A device that was gone comes back.
    assert_eq!(machine.order("fault start:allones"), "ok");
    assert_eq!(machine.read(0x109fc), u32::MAX);
    assert_eq!(machine.order("clear"), "ok");
    assert_ne!(machine.read(0x109fc), u32::MAX);
    assert_eq!(machine.command(PLATFORM_STATUS, &[0; 12]), 0);
}

#[test]
fn resets_that_nobody_tells_of() {
    const INTEN: u64 = 0x10690;
    let mut machine = Machine::start(&["--control", "ctl.sock"]);
    let up = |machine: &mut Machine| {
        machine.prepare();
        assert_eq!(machine.command(SNP_INIT_EX, &init_ex()), 0);
        machine.wbinvd();
        machine.enable_interrupts();
    };
    // Whether SNP is up afterwards, and interrupts are enabled.
    for (what, snp, interrupts) in
        [("registers", true, 0), ("firmware", false, u32::MAX), ("function", false, 0)]
    {
        up(&mut machine);
        assert_eq!(machine.order(&format!("reset {what}")), "ok");
        assert_eq!(machine.command(SNP_DF_FLUSH, &[]) == 0, snp, "{what}");
        assert_eq!(machine.read(INTEN), interrupts, "{what}");
        assert_eq!(machine.order("reset function"), "ok");
    }
    assert!(machine.order("reset").starts_with("error "));
}

#[test]
fn a_vanished_driver_and_signals_end_it_cleanly() {
    let mut machine = Machine::start(&[]);
    assert!(machine.disconnect().success());
    assert_eq!(machine.trace().last().unwrap()["event"], "disconnected");
    assert!(!machine.dir.join("psp.sock").exists());

    for signal in [libc::SIGTERM, libc::SIGINT] {
        let mut machine = Machine::start(&[]);
        machine.kill(signal);
        assert!(machine.wait().success(), "signal {signal}");
        assert!(!machine.dir.join("psp.sock").exists(), "signal {signal}");
    }
}

/// Arguments that cannot work end with a sentence about what to do.
#[test]
fn bad_starts_say_why() {
    let rows: &[(&[&str], &str)] = &[
        (&["--link", "/nonexistent/link"], "/nonexistent/link"),
        (&["--link", "/dev/null"], "truncate"),
        (&["--link", "/dev/null", "--fault", "SNP_INIT"], "COMMAND:ACTION"),
        (&["--link", "/dev/null", "--api", "1.55"], "MAJOR.MINOR.BUILD"),
        (&["--link", "/dev/null", "--device", "15df"], "possible values"),
    ];
    for (arguments, expected) in rows {
        let output = Command::new(env!("CARGO_BIN_EXE_pspd"))
            .args(["--socket", "/nonexistent/s", "--trace", "/nonexistent/t"])
            .args(*arguments)
            .output()
            .unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(!output.status.success(), "{arguments:?}");
        assert!(said.contains(expected), "{arguments:?}: {said}");
    }
}
