// SPDX-License-Identifier: GPL-2.0

//! What is looked at, from the processor upwards.

use crate::{host::Host, report::Report};

mod cpu;
mod driver;
mod iommu;
mod registers;

/// Looks at everything.
pub fn run(host: &Host) -> Report {
    let mut report = Report::default();
    report.section("CPU");
    let cpu = cpu::Cpu::read();
    cpu::check(host, &cpu, &mut report);
    report.section("Registers that firmware compares");
    registers::check(host, &cpu, &mut report);
    report.section("IOMMU");
    iommu::check(host, &mut report);
    report.section("Driver");
    driver::check(host, &mut report);
    report
}
