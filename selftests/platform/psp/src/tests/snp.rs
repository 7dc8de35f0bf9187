// SPDX-License-Identifier: GPL-2.0
//! The SNP platform and pages.

use rmp::{Code, RmpUpdate, State};

use super::lab::*;
use crate::endorsement::Vlek;
use crate::{Api, Config, CpuRegisters, Fact, Status};

const INIT_RMP: u32 = 1;
const WITH_LIST: u32 = 3;

fn init_ex(flags: u32) -> Buf {
    buf(64).u32(0, flags).u64(8, LIST)
}

/// A range list.
fn list(ranges: &[(u64, u32)]) -> Vec<u8> {
    let mut out = (ranges.len() as u64).to_le_bytes().to_vec();
    for (base, pages) in ranges {
        out.extend(base.to_le_bytes());
        out.extend(u64::from(*pages).to_le_bytes());
    }
    out
}

/// Prepared, with all CPUs changed alike.
fn moved(change: fn(&mut CpuRegisters)) -> Lab {
    let lab = Lab::prepared();
    lab.machine.cpus.borrow_mut().iter_mut().for_each(change);
    lab
}

/// Prepared, with one CPU changed.
fn spoiled(change: fn(&mut CpuRegisters)) -> Lab {
    let lab = Lab::prepared();
    change(&mut lab.machine.cpus.borrow_mut()[1]);
    lab
}

#[test]
fn init_checks_the_machine() {
    use Status::*;
    type Setup = fn() -> Lab;
    let rows: &[(&str, Setup, Status)] = &[
        ("all as it should be", Lab::prepared, Success),
        ("nothing prepared", Lab::new, InvalidConfig),
        ("SNP_EN missing on one CPU", || spoiled(|cpu| cpu.syscfg &= !(1 << 24)), InvalidConfig),
        ("MFDM missing on one CPU", || spoiled(|cpu| cpu.syscfg &= !(1 << 19)), InvalidConfig),
        ("HSAVE_PA set on one CPU", || spoiled(|cpu| cpu.hsave_pa = 0x1000), InvalidConfig),
        ("SmmLock clear on one CPU", || spoiled(|cpu| cpu.hwcr = 0), InvalidConfig),
        ("RMP_BASE differs", || spoiled(|cpu| cpu.rmp_base += 0x2000), InvalidConfig),
        ("RMP_END differs", || spoiled(|cpu| cpu.rmp_end += 0x2000), InvalidConfig),
        ("RMP_BASE at 8 KiB", || moved(|cpu| cpu.rmp_base += 0x2000), InvalidConfig),
        ("RMP_END at 8 KiB", || moved(|cpu| cpu.rmp_end -= 0x2000), InvalidConfig),
        ("RMP_CFG differs", || spoiled(|cpu| cpu.rmp_cfg = 0x1e01), InvalidConfig),
        ("VMPL_EN differs", || spoiled(|cpu| cpu.syscfg |= 1 << 25), InvalidConfig),
        ("MEM_ENCRYPT differs", || spoiled(|cpu| cpu.syscfg |= 1 << 23), InvalidConfig),
        ("an MTRR differs", || spoiled(|cpu| cpu.memory_types[0].1 = 0xc06), InvalidConfig),
        ("TOP_MEM differs", || spoiled(|cpu| cpu.memory_types[1].1 = 0), InvalidConfig),
        (
            "no CPU",
            || {
                let lab = Lab::prepared();
                lab.machine.cpus.borrow_mut().clear();
                lab
            },
            InvalidConfig,
        ),
        (
            "IOMMU without SNP",
            || {
                let lab = Lab::prepared();
                lab.machine.iommu_snp.set(false);
                lab
            },
            InvalidConfig,
        ),
        (
            "RMP beyond RAM",
            || {
                let lab = Lab::prepared();
                for cpu in lab.machine.cpus.borrow_mut().iter_mut() {
                    (cpu.rmp_base, cpu.rmp_end) = (RAM, RAM + 0xf_ffff);
                }
                lab
            },
            InvalidConfig,
        ),
        (
            "legacy SEV initialised",
            || {
                let mut lab = Lab::new();
                lab.ok("INIT", &buf(20));
                lab.prepare();
                lab
            },
            InvalidPlatformState,
        ),
        ("twice", Lab::snp, InvalidPlatformState),
    ];
    for (what, setup, status) in rows {
        for (command, buffer) in [("SNP_INIT", buf(0)), ("SNP_INIT_EX", init_ex(INIT_RMP))] {
            let mut lab = setup();
            let before = lab.machine.rmp().census();
            assert_eq!(lab.status(command, &buffer), *status, "{command}: {what}");
            if *status != Success {
                assert_eq!(lab.machine.rmp().census(), before, "{command}: {what}: RMP changed");
            }
        }
    }
}

/// The trace says what was wrong, with the MSR's name; firmware that does not look believes the
/// host.
#[test]
fn init_names_what_differs() {
    let mut lab = spoiled(|cpu| cpu.memory_types[1].1 = 0);
    let outcome = lab.run("SNP_INIT", &buf(0));
    assert!(outcome.facts.contains(&("wrong", Fact::Word("TOP_MEM"))), "{:?}", outcome.facts);
    for status in [Status::InvalidConfig, Status::Success] {
        let checks = status != Status::Success;
        let mut lab = Lab::with(Config { checks, ..Config::MILAN });
        lab.prepare();
        lab.machine.cpus.borrow_mut()[1].syscfg = 0;
        assert_eq!(lab.status("SNP_INIT", &buf(0)), status);
    }
}

#[test]
fn init_ex_checks_its_buffer() {
    use Status::*;
    let row = |what, buffer, status| Row {
        what,
        lab: Lab::prepared,
        command: "SNP_INIT_EX",
        buffer,
        status,
    };
    check(vec![
        row("reserved word", init_ex(INIT_RMP).u32(4, 1), InvalidParam),
        row("reserved tail", init_ex(INIT_RMP).u8(63, 1), InvalidParam),
        row("reserved flag", init_ex(INIT_RMP | 1 << 31), InvalidParam),
        row("TIO is not modelled", init_ex(INIT_RMP | 1 << 4), InvalidParam),
        row("RMP never initialised", init_ex(0), RmpInitRequired),
        row("hiding without ASID limit", init_ex(INIT_RMP | 8), InvalidParam),
        row("hiding", init_ex(INIT_RMP | 8).u32(16, 10), Success),
        row("hiding, limit too high", init_ex(INIT_RMP | 8).u32(16, 50), InvalidParam),
        row("limit without hiding", init_ex(INIT_RMP).u32(16, 10), InvalidParam),
        row("list misaligned", init_ex(WITH_LIST).u64(8, LIST + 8), InvalidAddress),
        row("list beyond RAM", init_ex(WITH_LIST).u64(8, RAM), InvalidAddress),
        row("empty list", init_ex(WITH_LIST), Success),
    ]);
}

#[test]
fn listed_pages_become_hv_fixed() {
    let mut lab = Lab::prepared();
    // What Linux lists: beyond coverage, the RMP itself, and ordinary reserved memory.
    let ranges = [(0x10_0000, 2), (RMP_BASE, 20), (0xfd_0000_0000, 0x300), (COVERED - 0x1000, 2)];
    lab.machine.poke(LIST, &list(&ranges));
    lab.ok("SNP_INIT_EX", &init_ex(WITH_LIST));
    let rows = [
        (0x10_0000, Some(State::HvFixed)),
        (0x10_1000, Some(State::HvFixed)),
        (0x10_2000, Some(State::Hypervisor)),
        (COVERED - 0x1000, Some(State::HvFixed)),
        (COVERED, None),
        (RMP_BASE, Some(State::RmpTable)),
        (RMP_END, Some(State::RmpTable)),
        (RMP_END + 1, Some(State::HvFixed)),
    ];
    for (pa, state) in rows {
        assert_eq!(lab.machine.state(pa), state, "{pa:#x}");
    }
    let assign = RmpUpdate { assigned: true, ..RmpUpdate::default() };
    assert_eq!(lab.machine.rmp().rmpupdate(0x10_0000, &assign), Code::FailPermission);
}

#[test]
fn malformed_lists_are_refused() {
    let too_long = list(&[(0, 0); 255]);
    let mut reserved = list(&[(0x1000, 1)]);
    reserved[20] = 1;
    let mut header = list(&[]);
    header[4] = 1;
    let rows: &[(&str, Vec<u8>, Status)] = &[
        ("255 ranges fit", too_long.clone(), Status::Success),
        ("256 do not", 256u64.to_le_bytes().to_vec(), Status::InvalidParam),
        ("2^32-1 do not", vec![0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0], Status::InvalidParam),
        ("misaligned base", list(&[(0x1008, 1)]), Status::InvalidParam),
        ("reserved word of a range", reserved, Status::InvalidParam),
        ("reserved word of the header", header, Status::InvalidParam),
        ("a range that wraps", list(&[(!0xfff, u32::MAX)]), Status::Success),
    ];
    for (what, list, status) in rows {
        let mut lab = Lab::prepared();
        lab.machine.poke(LIST, list);
        assert_eq!(lab.status("SNP_INIT_EX", &init_ex(WITH_LIST)), *status, "{what}");
    }
}

/// A second INIT without INIT_RMP keeps the table, and then the list is checked against it.
#[test]
fn init_can_keep_the_rmp() {
    let restart = |lab: &mut Lab, flags| {
        lab.ok("SNP_SHUTDOWN_EX", &buf(8).u32(0, 8));
        lab.status("SNP_INIT_EX", &init_ex(flags))
    };
    let mut lab = Lab::snp();
    assert_eq!(restart(&mut lab, 0), Status::Success);
    assert_eq!(lab.machine.state(FW_BUFFER), Some(State::Firmware), "kept");

    let mut lab = Lab::context();
    lab.pre_guest(PAGE, 3, 0x8000);
    lab.machine.poke(LIST, &list(&[(GCTX, 1), (PAGE, 1)]));
    assert_eq!(restart(&mut lab, 2), Status::InvalidPageState, "a Pre-Guest page in the list");
    assert_eq!(lab.machine.state(GCTX), Some(State::Firmware), "the context ended, nothing more");
    assert_eq!(lab.status("SNP_INIT_EX", &init_ex(WITH_LIST)), Status::Success, "made new");
    assert_eq!(lab.machine.state(PAGE), Some(State::HvFixed));
    assert_eq!(lab.machine.state(FW_BUFFER), Some(State::Hypervisor));

    let mut lab = Lab::snp();
    lab.ok("SNP_SHUTDOWN_EX", &buf(8).u32(0, 8).u32(4, 3));
    lab.prepare();
    assert_eq!(lab.status("SNP_INIT_EX", &init_ex(0)), Status::RmpInitRequired);
}

#[test]
fn old_firmware_has_fewer_commands() {
    let old = || {
        let api = Api { major: 1, minor: 51, build: 3 };
        let lab = Lab::with(Config { api, ..Config::MILAN });
        lab.prepare();
        lab
    };
    assert_eq!(old().status("SNP_INIT_EX", &init_ex(INIT_RMP)), Status::InvalidCommand);
    assert_eq!(old().status("SNP_FEATURE_INFO", &buf(16)), Status::InvalidCommand);
    assert_eq!(old().status("SNP_INIT", &buf(0)), Status::Success);
    let mut lab = old();
    lab.ok("SNP_PLATFORM_STATUS", &buf(8).u64(0, OUT));
    assert_eq!(lab.machine.peek(OUT + 8, 1), [0], "no FEATURE_INFO flag");
    // What FEATURE_INFO would have to announce does not exist either.
    let mut lab = old();
    lab.ok("SNP_INIT", &buf(0));
    lab.machine.wbinvd();
    lab.ok("SNP_DF_FLUSH", &buf(0));
    let x86 = buf(8).u32(0, 8).u32(4, 3);
    assert_eq!(lab.status("SNP_SHUTDOWN_EX", &x86), Status::InvalidParam);
    let api = Api { major: 1, minor: 54, build: 0 };
    let mut lab = Lab::with(Config { api, ..Config::MILAN });
    lab.prepare();
    let mut hiding = init_ex(INIT_RMP | 8);
    hiding.0[16] = 10;
    assert_eq!(lab.status("SNP_INIT_EX", &hiding), Status::InvalidParam);
}

#[test]
fn status_page() {
    use Status::*;
    let row = |what, lab, buffer, status| Row {
        what,
        lab,
        command: "SNP_PLATFORM_STATUS",
        buffer,
        status,
    };
    let firmware: fn() -> Lab = || {
        let lab = Lab::snp();
        lab.firmware(OUT, 1);
        lab
    };
    check(vec![
        row("UNINIT: ordinary memory", Lab::new, buf(8).u64(0, OUT + 0x20), Success),
        row("UNINIT: crossing a page", Lab::new, buf(8).u64(0, OUT + 0xff0), InvalidAddress),
        row("UNINIT: beyond RAM", Lab::new, buf(8).u64(0, RAM), InvalidAddress),
        row("INIT: hypervisor page", Lab::snp, buf(8).u64(0, OUT), InvalidPageState),
        row("INIT: page without entry", Lab::snp, buf(8).u64(0, COVERED), InvalidPageState),
        row("INIT: firmware page", firmware, buf(8).u64(0, OUT), Success),
    ]);
    let mut lab = firmware();
    lab.ok("SNP_PLATFORM_STATUS", &buf(8).u64(0, OUT));
    assert_eq!(lab.machine.state(OUT), Some(State::Reclaim));
    let out = lab.machine.peek(OUT, 32);
    assert_eq!(out[..8], [1, 55, 1, 3, 21, 0, 0, 0]);
    assert_eq!(out[8..16], [1 << 3 | 1 << 5, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(out[16..24], out[24..32], "reported TCB follows current");
    lab.ok("SNP_PAGE_RECLAIM", &buf(8).u64(0, OUT));
    assert_eq!(lab.machine.rmp().rmpupdate(OUT, &RmpUpdate::default()), Code::Success);
}

#[test]
fn feature_info() {
    use Status::*;
    let row =
        |what, lab, buffer, status| Row { what, lab, command: "SNP_FEATURE_INFO", buffer, status };
    let good = || buf(16).u32(0, 16).u64(8, OUT);
    check(vec![
        row("before SNP_INIT", Lab::new, good(), Success),
        row("hypervisor page", Lab::snp, good(), InvalidPageState),
        row("wrong length", Lab::new, good().u32(0, 8), InvalidLen),
        row("sub-leaf 1", Lab::new, good().u32(4, 1), InvalidParam),
        row("beyond RAM", Lab::new, good().u64(8, RAM), InvalidAddress),
    ]);
    for (x86_shutdown, bit) in [(true, 2), (false, 0)] {
        let mut lab = Lab::with(Config { x86_shutdown, ..Config::MILAN });
        lab.ok("SNP_FEATURE_INFO", &good());
        assert_eq!(lab.machine.peek(OUT, 16)[8] & 2, bit);
        assert_eq!(lab.machine.peek(OUT, 8), [0; 8], "no TIO, one sub-leaf");
    }
}

#[test]
fn df_flush_needs_wbinvd_on_every_cpu() {
    let mut lab = Lab::prepared();
    lab.ok("SNP_INIT", &buf(0));
    assert_eq!(lab.status("SNP_DF_FLUSH", &buf(0)), Status::WbinvdRequired);
    lab.machine.cpus.borrow_mut()[1].wbinvd += 1;
    assert_eq!(lab.status("SNP_DF_FLUSH", &buf(0)), Status::WbinvdRequired);
    lab.machine.wbinvd();
    lab.ok("SNP_DF_FLUSH", &buf(0));
}

#[test]
fn shutdown() {
    use Status::*;
    let row =
        |what, lab, buffer, status| Row { what, lab, command: "SNP_SHUTDOWN_EX", buffer, status };
    let unflushed: fn() -> Lab = || {
        let mut lab = Lab::prepared();
        lab.ok("SNP_INIT", &buf(0));
        lab
    };
    let legacy: fn() -> Lab = || {
        let mut lab = Lab::snp();
        lab.ok("INIT", &buf(20));
        lab.machine.wbinvd();
        lab.ok("DF_FLUSH", &buf(0));
        lab
    };
    let no_x86: fn() -> Lab = || {
        let mut lab = Lab::with(Config { x86_shutdown: false, ..Config::MILAN });
        lab.prepare();
        lab.ok("SNP_INIT", &buf(0));
        lab.machine.wbinvd();
        lab.ok("SNP_DF_FLUSH", &buf(0));
        lab
    };
    let good = |flags| buf(8).u32(0, 8).u32(4, flags);
    check(vec![
        row("plain", Lab::snp, good(0), Success),
        row("with IOMMU", Lab::snp, good(1), Success),
        row("x86", Lab::snp, good(3), Success),
        row("x86 where it does not exist", no_x86, good(3), InvalidParam),
        row("reserved flag", Lab::snp, good(4), InvalidParam),
        row("wrong length", Lab::snp, buf(8).u32(0, 4), InvalidLen),
        row("not initialised", Lab::new, good(1), InvalidPlatformState),
        row("legacy SEV still initialised", legacy, good(1), InvalidPlatformState),
        row("flush outstanding", unflushed, good(1), DfFlushRequired),
    ]);
    assert_eq!(Lab::snp().status("SNP_SHUTDOWN", &buf(0)), Success);
}

#[test]
fn x86_shutdown_clears_snp_en_and_frees_the_table() {
    let mut lab = Lab::snp();
    lab.ok("SNP_SHUTDOWN_EX", &buf(8).u32(0, 8).u32(4, 1));
    assert!(lab.machine.cpus.borrow().iter().all(CpuRegisters::snp_en));
    assert_eq!(lab.machine.state(RMP_BASE), Some(State::RmpTable));
    assert_eq!(lab.status("INIT", &buf(20)), Status::InvalidPlatformState, "SNP_EN is still set");

    let mut lab = Lab::snp();
    lab.ok("SNP_SHUTDOWN_EX", &buf(8).u32(0, 8).u32(4, 3));
    assert!(!lab.machine.cpus.borrow().iter().any(CpuRegisters::snp_en));
    assert_eq!(lab.machine.state(RMP_BASE), Some(State::Hypervisor));
    assert_eq!(lab.machine.state(FW_BUFFER), Some(State::Firmware), "that is the host's to clear");
    assert_eq!(lab.status("INIT", &buf(20)), Status::Success);
}

/// What SNP_INIT takes for the IOMMU comes back at shutdown, as the firmware's version has it.
#[test]
fn iommu_pages_are_firmwares_until_shutdown() {
    const LOG: u64 = 0x20_0000;
    let beyond = COVERED + 0x1000;
    let shut_down = |minor, flags| {
        let api = Api { major: 1, minor, build: 0 };
        let mut lab = Lab::with(Config { api, ..Config::MILAN });
        lab.prepare();
        *lab.machine.iommu_pages.borrow_mut() = vec![LOG, LOG + 0x1000, beyond];
        let facts = lab.ok("SNP_INIT", &buf(0)).facts;
        let pages = format!("{LOG:#x}+0x2000 {beyond:#x}+0x1000");
        assert_eq!(facts, [("iommu", Fact::Text(pages))]);
        assert!(lab.machine.snp_active.get());
        assert_eq!(lab.machine.state(LOG), Some(State::Firmware));
        assert_eq!(lab.machine.state(LOG + 0x1000), Some(State::Firmware));
        let stolen = lab.run("SNP_PAGE_RECLAIM", &buf(8).u64(0, LOG));
        assert_eq!(stolen.status, Status::InvalidPageState, "the IOMMU uses it");
        lab.machine.wbinvd();
        lab.ok("SNP_DF_FLUSH", &buf(0));
        lab.ok("SNP_SHUTDOWN_EX", &buf(8).u32(0, 8).u32(4, flags));
        assert_eq!(lab.machine.snp_active.get(), flags & 2 == 0, "as long as SNP_EN is set");
        lab
    };
    let rows = [
        (52, 1, State::Hypervisor),
        (53, 1, State::Reclaim),
        (55, 0, State::Firmware),
        (55, 3, State::Reclaim),
    ];
    for (minor, flags, state) in rows {
        let lab = shut_down(minor, flags);
        assert_eq!(lab.machine.state(LOG), Some(state), "API 1.{minor}, flags {flags}");
    }
    // Shared again by the host or not, the next SNP_INIT takes them anew.
    for flags in [0, 1] {
        let mut lab = shut_down(55, flags);
        lab.ok("SNP_INIT", &buf(0));
        assert_eq!(lab.machine.state(LOG), Some(State::Firmware));
    }
}

#[test]
fn iommu_pages_in_the_table_are_refused() {
    let mut lab = Lab::prepared();
    lab.machine.iommu_pages.borrow_mut().push(RMP_BASE);
    assert_eq!(lab.status("SNP_INIT", &buf(0)), Status::InvalidPageState);
    assert!(!lab.machine.snp_active.get());
}

/// What shares 2 MiB with the table is nobody's to give away. What the IOMMU uses is firmware's.
#[test]
fn memory_beside_the_table_stays_where_it_is() {
    let mut lab = Lab::prepared();
    *lab.machine.iommu_pages.borrow_mut() = vec![PAGE];
    lab.ok("SNP_INIT", &buf(0));
    let end = RMP_END + 1;
    assert_eq!(end % (2 << 20), 1 << 20, "the table ends in the middle of 2 MiB");
    for (page, state) in
        [(end, State::HvFixed), (end + (1 << 20) - 0x1000, State::HvFixed), (PAGE, State::Firmware)]
    {
        assert_eq!(lab.machine.state(page), Some(state), "{page:#x}");
        let shared = lab.machine.rmp().rmpupdate(page, &RmpUpdate::default());
        assert_eq!(shared, Code::FailPermission, "{page:#x}");
        for command in ["SNP_PAGE_RECLAIM", "SNP_GCTX_CREATE"] {
            let status = lab.status(command, &buf(8).u64(0, page));
            assert_eq!(status, Status::InvalidPageState, "{command} of {page:#x}");
        }
    }
    assert_eq!(lab.machine.state(end + (1 << 20)), Some(State::Hypervisor));
    lab.machine.wbinvd();
    lab.ok("SNP_DF_FLUSH", &buf(0));
    lab.ok("SNP_SHUTDOWN_EX", &buf(8).u32(0, 8).u32(4, 3));
    assert_eq!(lab.machine.state(end), Some(State::Hypervisor));
}

#[test]
fn reclaim() {
    use Status::*;
    let row =
        |what, lab, buffer, status| Row { what, lab, command: "SNP_PAGE_RECLAIM", buffer, status };
    let firmware: fn() -> Lab = || {
        let lab = Lab::snp();
        lab.firmware(PAGE, 1);
        lab
    };
    let reclaimed: fn() -> Lab = || {
        let mut lab = Lab::snp();
        lab.firmware(PAGE, 1);
        lab.ok("SNP_PAGE_RECLAIM", &buf(8).u64(0, PAGE));
        lab
    };
    let pre_guest: fn() -> Lab = || {
        let lab = Lab::snp();
        lab.pre_guest(PAGE, 7, 0x1000);
        lab
    };
    let large: fn() -> Lab = || {
        let lab = Lab::snp();
        let page =
            RmpUpdate { assigned: true, immutable: true, large: true, ..RmpUpdate::default() };
        assert_eq!(lab.machine.rmp().rmpupdate(TMR, &page), Code::Success);
        lab
    };
    check(vec![
        row("firmware", firmware, buf(8).u64(0, PAGE), Success),
        row("firmware, C-bit set", firmware, buf(8).u64(0, PAGE | C_BIT), Success),
        row("twice", reclaimed, buf(8).u64(0, PAGE), Success),
        row("pre-guest", pre_guest, buf(8).u64(0, PAGE), Success),
        row("hypervisor", Lab::snp, buf(8).u64(0, PAGE), InvalidPageState),
        row("context", Lab::context, buf(8).u64(0, GCTX), InvalidPageState),
        row("the table", Lab::snp, buf(8).u64(0, RMP_BASE), InvalidPageState),
        row("without entry", Lab::snp, buf(8).u64(0, COVERED), InvalidAddress),
        row("far away", Lab::snp, buf(8).u64(0, !0xfff), InvalidAddress),
        row("misaligned", firmware, buf(8).u64(0, PAGE + 8), InvalidParam),
        row("2M misaligned", firmware, buf(8).u64(0, PAGE | 1), InvalidAddress),
        row("2M", large, buf(8).u64(0, TMR | 1), Success),
        row("4K of 2M", large, buf(8).u64(0, TMR), InvalidPageSize),
        row("2M of 4K", firmware, buf(8).u64(0, 1), InvalidPageState),
    ]);
    for setup in [firmware, reclaimed, pre_guest] {
        let mut lab = setup();
        lab.ok("SNP_PAGE_RECLAIM", &buf(8).u64(0, PAGE));
        let shared = lab.machine.rmp().rmpupdate(PAGE, &RmpUpdate::default());
        assert_eq!(shared, Code::Success, "the page is the host's again");
    }
}

#[test]
fn config_and_commit() {
    use Status::*;
    const TCB: u64 = Config::MILAN.tcb;
    let row =
        |what, buffer, status| Row { what, lab: Lab::snp, command: "SNP_CONFIG", buffer, status };
    check(vec![
        row("as it is", buf(64).u64(0, TCB), Success),
        row("follow", buf(64), Success),
        row("lower", buf(64).u64(0, 3), Success),
        row("higher", buf(64).u64(0, TCB + 1), InvalidParam),
        row("all 100, as virtee/sev tests", buf(64).u64(0, 0x6464_0000_0000_6464), InvalidParam),
        row("masks", buf(64).u32(8, 3), Success),
        row("reserved flag", buf(64).u32(8, 31), InvalidParam),
        row("reserved tail", buf(64).u8(63, 1), InvalidParam),
    ]);
    let mut lab = Lab::snp();
    lab.ok("SNP_CONFIG", &buf(64).u64(0, 3).u32(8, 3));
    lab.firmware(OUT, 1);
    lab.ok("SNP_PLATFORM_STATUS", &buf(8).u64(0, OUT));
    let out = lab.machine.peek(OUT, 32);
    assert_eq!((out[8] & 3, &out[24..32]), (3, 3u64.to_le_bytes().as_slice()));

    for lab in [Lab::new, Lab::snp] {
        assert_eq!(lab().status("SNP_COMMIT", &buf(4).u32(0, 4)), Success);
        assert_eq!(lab().status("SNP_COMMIT", &buf(4)), InvalidLen);
    }
}

#[test]
fn vlek_load() {
    use Status::*;
    let wrapped = |tcb| Vlek { hashstick: [7; 384], tcb }.wrap(Config::MILAN.seed, [0; 12]);
    let good = || buf(16).u32(0, 16).u64(8, PAGE);
    let blob = wrapped(Config::MILAN.tcb);
    let mut changed = blob.clone();
    changed[0x10] ^= 1;
    let too_new = wrapped(Config::MILAN.tcb + 1);
    let rows: &[(&str, &[u8], Buf, Status)] = &[
        ("good", &blob, good(), Success),
        ("changed", &changed, good(), InvalidKey),
        ("anything", &[0; 0x1b0], good(), InvalidKey),
        ("TCB above current", &too_new, good(), InvalidParam),
        ("wrong length", &blob, good().u32(0, 8), InvalidLen),
        ("wrong version", &blob, good().u8(4, 1), InvalidParam),
        ("reserved", &blob, good().u8(7, 1), InvalidParam),
        ("beyond RAM", &blob, good().u64(8, RAM), InvalidAddress),
    ];
    for (what, blob, buffer, status) in rows {
        let mut lab = Lab::snp();
        lab.machine.poke(PAGE, blob);
        assert_eq!(lab.status("SNP_VLEK_LOAD", buffer), *status, "{what}");
        lab.firmware(OUT, 1);
        lab.ok("SNP_PLATFORM_STATUS", &buf(8).u64(0, OUT));
        let loaded = lab.machine.peek(OUT + 8, 1)[0] & 4 != 0;
        assert_eq!(loaded, *status == Success, "{what}: vlek_en");
    }
}

#[test]
fn verify_mitigation() {
    use Status::*;
    let setup: fn() -> Lab = || {
        let lab = Lab::snp();
        lab.firmware(OUT, 1);
        lab
    };
    let query = || buf(64).u32(0, 64).u32(16, 1).u64(32, OUT);
    let verify = |vector| query().u8(4, 1).u64(8, vector);
    let row = |what, lab, buffer, status| Row {
        what,
        lab,
        command: "SNP_VERIFY_MITIGATION",
        buffer,
        status,
    };
    check(vec![
        row("query", setup, query(), Success),
        row("verify", setup, verify(1), Success),
        row("two at once", setup, verify(3), InvalidParam),
        row("none", setup, verify(0), InvalidParam),
        row("no such subcommand", setup, query().u8(4, 2), InvalidParam),
        row("with a source", setup, query().u32(16, 3), InvalidParam),
        row("without destination", setup, query().u32(16, 0), InvalidParam),
        row("wrong length", setup, query().u32(0, 20), InvalidLen),
        row("reserved", setup, query().u8(63, 1), InvalidParam),
        row("hypervisor page", Lab::snp, query(), InvalidPageState),
        row("beyond RAM", Lab::snp, query().u64(32, RAM), InvalidAddress),
    ]);
    let mut lab = setup();
    let answer = |lab: &Lab| (lab.machine.peek(OUT, 1)[0], lab.machine.peek(OUT + 16, 1)[0]);
    lab.ok("SNP_VERIFY_MITIGATION", &verify(1 << 40));
    assert_eq!(answer(&lab), (0, 1), "a mitigation that is not there fails in the answer");
    lab.ok("SNP_VERIFY_MITIGATION", &verify(2));
    assert_eq!(answer(&lab), (2, 0));
}
