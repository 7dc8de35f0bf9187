// SPDX-License-Identifier: GPL-2.0
//! The device towards QEMU: regions, interrupts, DMA. Nothing in here waits.

use std::fs::File;
use std::io;
use std::sync::mpsc::Sender;
use std::sync::Arc;

use vfio_bindings::bindings::vfio::{
    vfio_region_info, VFIO_IRQ_INFO_EVENTFD, VFIO_PCI_BAR2_REGION_INDEX,
    VFIO_PCI_BAR5_REGION_INDEX, VFIO_PCI_CONFIG_REGION_INDEX, VFIO_PCI_MSIX_IRQ_INDEX,
    VFIO_PCI_MSI_IRQ_INDEX, VFIO_PCI_NUM_IRQS, VFIO_PCI_NUM_REGIONS, VFIO_REGION_INFO_FLAG_READ,
    VFIO_REGION_INFO_FLAG_WRITE,
};
use vfio_user::{DmaMapFlags, DmaUnmapFlags, IrqInfo, ServerBackend, ServerRegion};

use crate::cli::Irq;
use crate::config_space::{self, ConfigSpace};
use crate::generation::Generation;
use crate::interrupt::Interrupts;
use crate::mailbox::Request;
use crate::memory::Memory;
use crate::registers::{Registers, Rung};
use crate::services;

/// The regions that a PCI device has, most of them empty.
pub fn regions() -> Vec<ServerRegion> {
    let size = |index| match index {
        VFIO_PCI_BAR2_REGION_INDEX => config_space::BAR2_SIZE,
        VFIO_PCI_BAR5_REGION_INDEX => config_space::BAR5_SIZE,
        VFIO_PCI_CONFIG_REGION_INDEX => config_space::SIZE as u64,
        _ => 0,
    };
    let region = |index| ServerRegion {
        region_info: vfio_region_info {
            argsz: size_of::<vfio_region_info>() as u32,
            index,
            flags: if size(index) == 0 {
                0
            } else {
                VFIO_REGION_INFO_FLAG_READ | VFIO_REGION_INFO_FLAG_WRITE
            },
            size: size(index),
            ..Default::default()
        },
        sparse_areas: Vec::new(),
        mmap_fd: None,
    };
    (0..VFIO_PCI_NUM_REGIONS).map(region).collect()
}

/// The interrupt kinds, with vectors for the one that the device has.
pub fn irqs(irq: Irq) -> Vec<IrqInfo> {
    let own = match irq {
        Irq::Msix => Some(VFIO_PCI_MSIX_IRQ_INDEX),
        Irq::Msi => Some(VFIO_PCI_MSI_IRQ_INDEX),
        Irq::None => None,
    };
    let info = |index| IrqInfo {
        index,
        flags: VFIO_IRQ_INFO_EVENTFD,
        count: if Some(index) == own { ConfigSpace::vectors(irq) } else { 0 },
    };
    (0..VFIO_PCI_NUM_IRQS).map(info).collect()
}

pub struct Device {
    config: ConfigSpace,
    fresh_config: (Generation, Irq),
    registers: Arc<Registers>,
    memory: Arc<Memory>,
    interrupts: Arc<Interrupts>,
    worker: Sender<Request>,
    services: Sender<services::Request>,
}

impl Device {
    pub fn new(
        generation: Generation,
        irq: Irq,
        registers: Arc<Registers>,
        memory: Arc<Memory>,
        interrupts: Arc<Interrupts>,
        worker: Sender<Request>,
        services: Sender<services::Request>,
    ) -> Device {
        let config = ConfigSpace::new(generation, irq);
        let fresh_config = (generation, irq);
        Device { config, fresh_config, registers, memory, interrupts, worker, services }
    }

    fn send(&self, request: Request) -> io::Result<()> {
        self.worker.send(request).map_err(|_| io::Error::other("the mailbox worker has ended"))
    }

    fn serve(&self, request: services::Request) -> io::Result<()> {
        let sent = self.services.send(request);
        sent.map_err(|_| io::Error::other("the services' thread has ended"))
    }
}

impl ServerBackend for Device {
    fn region_read(&mut self, region: u32, offset: u64, data: &mut [u8]) -> io::Result<()> {
        match region {
            VFIO_PCI_CONFIG_REGION_INDEX => self.config.read(offset, data),
            VFIO_PCI_BAR2_REGION_INDEX => self.registers.read(offset, data),
            // MSI-X pending bits: QEMU keeps the table, and nothing is ever pending here.
            _ => data.fill(0),
        }
        Ok(())
    }

    fn region_write(&mut self, region: u32, offset: u64, data: &[u8]) -> io::Result<()> {
        match region {
            VFIO_PCI_CONFIG_REGION_INDEX => {
                if self.config.write(offset, data) {
                    self.registers.reset();
                    self.send(Request::Reset)?;
                    self.serve(services::Request::Reset)?;
                }
            }
            VFIO_PCI_BAR2_REGION_INDEX => match self.registers.write(offset, data) {
                Some(Rung::Sev(doorbell)) => self.send(Request::Command(doorbell))?,
                Some(Rung::Service(request)) => self.serve(request)?,
                None => {}
            },
            _ => {}
        }
        Ok(())
    }

    fn dma_map(
        &mut self,
        flags: DmaMapFlags,
        offset: u64,
        address: u64,
        size: u64,
        fd: Option<File>,
    ) -> io::Result<()> {
        match fd {
            Some(file) if flags.contains(DmaMapFlags::READ_WRITE) => {
                let result = self.memory.map(address, file, offset, size);
                if let Err(error) = &result {
                    // QEMU takes the server's error for success (vfio_user replies errno 0), so
                    // say it here: commands that use this memory will end in INVALID_ADDRESS.
                    eprintln!("pspd: cannot map {size:#x} bytes at {address:#x}: {error}");
                }
                result
            }
            // ROMs, and memory that QEMU does not share: not RAM for the model.
            _ => Ok(()),
        }
    }

    fn dma_unmap(&mut self, flags: DmaUnmapFlags, address: u64, size: u64) -> io::Result<()> {
        if flags.contains(DmaUnmapFlags::UNMAP_ALL) {
            self.memory.unmap_all();
        } else {
            self.memory.unmap(address, size);
        }
        Ok(())
    }

    fn reset(&mut self) -> io::Result<()> {
        self.config = ConfigSpace::new(self.fresh_config.0, self.fresh_config.1);
        self.registers.reset();
        self.serve(services::Request::Reset)?;
        self.send(Request::Reset)
    }

    fn set_irqs(
        &mut self,
        index: u32,
        _flags: u32,
        start: u32,
        count: u32,
        fds: Vec<File>,
    ) -> io::Result<()> {
        self.interrupts.set(index, start, count, fds);
        Ok(())
    }
}
