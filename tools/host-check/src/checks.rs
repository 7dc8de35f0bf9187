// SPDX-License-Identifier: GPL-2.0

//! What is looked at, from the processor upwards.

use crate::{host::Host, report::Report};

mod cpu;
mod driver;
mod firmware;
mod iommu;
mod kernel;
mod log;
mod losses;
mod module;
mod registers;
mod rmp;
mod window;

/// Which address bit is the C-bit.
pub fn c_bit() -> u32 {
    cpu::Cpu::read().c_bit
}

/// Looks at everything.
pub fn run(host: &Host) -> Report {
    let mut report = Report::default();
    let cpu = cpu::Cpu::read();
    report.section("CPU");
    cpu::check(host, &cpu, &mut report);
    report.section("Registers that firmware compares");
    registers::check(host, &cpu, &mut report);
    report.section("RMP");
    rmp::check(host, &cpu, &mut report);
    report.section("IOMMU");
    iommu::check(host, &mut report);
    report.section("Kernel");
    kernel::check(host, &mut report);
    module::check(host, &mut report);
    report.section("Driver and firmware");
    driver::check(host, &mut report);
    firmware::check(host, &mut report);
    window::check(host, &mut report);
    losses::check(host, &mut report);
    report.section("The kernel's log");
    log::check(host, &mut report);
    report
}
