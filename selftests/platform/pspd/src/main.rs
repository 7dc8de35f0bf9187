// SPDX-License-Identifier: GPL-2.0
//! Serves the PSP model to QEMU as a PCI device, over vfio-user.
//!
//! Three threads: the vfio-user server answers register accesses at once and never waits for
//! anything else (QEMU holds its big lock meanwhile); the mailbox worker executes commands against
//! guest memory, which QEMU shares by DMA_MAP, and raises the interrupt; what the PSP does beside
//! SEV is done by a third.

mod cli;
mod config_space;
mod control;
mod fault;
mod generation;
mod interrupt;
mod machine;
mod mailbox;
mod memory;
mod pending;
mod registers;
mod scan;
mod server;
mod services;
mod trace;

use std::path::Path;
use std::process::ExitCode;
use std::sync::mpsc::{self, Sender};
use std::sync::{Arc, Mutex};
use std::{fs, io, thread};

use clap::Parser;

use cli::{Action, Cli, Serve};
use control::Control;
use fault::Faults;
use interrupt::Interrupts;
use machine::Machine;
use mailbox::{Request, Worker};
use memory::Memory;
use pending::Pending;
use registers::Registers;
use server::Device;
use services::Services;
use trace::Trace;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let result = match (cli.action, cli.serve) {
        (Some(Action::Scan(scan)), _) => scan::run(&scan),
        (None, Some(options)) => serve(&options),
        (None, None) => Err("nothing to do; see --help".to_owned()),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("pspd: {error}");
            ExitCode::FAILURE
        }
    }
}

/// What the threads share.
struct Parts {
    link: Arc<link::Mapping>,
    trace: Arc<Trace>,
    registers: Arc<Registers>,
    memory: Arc<Memory>,
    interrupts: Arc<Interrupts>,
    faults: Arc<Mutex<Faults>>,
    pending: Arc<Pending>,
}

impl Parts {
    fn new(options: &Serve) -> Result<Parts, String> {
        let link = link::Mapping::open(&options.link).map_err(|error| error.to_string())?;
        let trace = Trace::create(&options.trace);
        let trace = trace.map_err(|error| cannot("write the trace", &options.trace, error))?;
        let registers = Registers::new(options.device(), options.capability.0);
        let faults = Faults::new(options.fault.clone());
        if faults.dead_on_arrival() {
            registers.vanish();
        }
        Ok(Parts {
            link: Arc::new(link),
            trace: Arc::new(trace),
            registers: Arc::new(registers),
            memory: Arc::default(),
            interrupts: Arc::default(),
            faults: Arc::new(Mutex::new(faults)),
            pending: Arc::default(),
        })
    }

    fn device(
        &self,
        options: &Serve,
        worker: Sender<Request>,
        services: Sender<services::Request>,
    ) -> Device {
        Device::new(
            options.device(),
            options.irq,
            Arc::clone(&self.registers),
            Arc::clone(&self.memory),
            Arc::clone(&self.interrupts),
            worker,
            services,
        )
    }

    fn services(&self, c_bit: u32) -> Services {
        Services {
            registers: Arc::clone(&self.registers),
            machine: Machine { memory: Arc::clone(&self.memory), link: Arc::clone(&self.link) },
            faults: Arc::clone(&self.faults),
            trace: Arc::clone(&self.trace),
            hsti: registers::FEATURES >> 8,
            sfs: psp::Sfs::new(c_bit),
            tee: psp::Tee::new(c_bit),
            silent: Vec::new(),
            stuck: None,
        }
    }

    fn control(&self, worker: Sender<Request>, services: Sender<services::Request>) -> Control {
        Control {
            faults: Arc::clone(&self.faults),
            pending: Arc::clone(&self.pending),
            registers: Arc::clone(&self.registers),
            interrupts: Arc::clone(&self.interrupts),
            worker,
            services,
            link: Arc::clone(&self.link),
            trace: Arc::clone(&self.trace),
        }
    }

    fn worker(self, options: &Serve, config: psp::Config) -> Worker {
        Worker {
            psp: psp::Psp::new(config),
            machine: Machine { memory: self.memory, link: self.link },
            registers: self.registers,
            interrupts: self.interrupts,
            faults: self.faults,
            pending: self.pending,
            trace: self.trace,
            dump_pages: options.dump_pages.clone(),
        }
    }
}

fn cannot(what: &str, path: &Path, error: impl std::fmt::Display) -> String {
    format!("cannot {what} {}: {error}", path.display())
}

fn serve(options: &Serve) -> Result<(), String> {
    let config = options.psp_config()?;
    let parts = Parts::new(options)?;
    if let Some(dir) = &options.dump_pages {
        fs::create_dir_all(dir).map_err(|error| cannot("make", dir, error))?;
    }
    for socket in std::iter::once(&options.socket).chain(&options.control) {
        control::remove_stale_socket(socket)?;
    }
    let (doorbell, commands) = mpsc::channel();
    let (service, requests) = mpsc::channel();
    let mut device = parts.device(options, doorbell.clone(), service.clone());
    let server =
        vfio_user::Server::new(&options.socket, true, server::irqs(options.irq), server::regions())
            .map_err(|error| cannot("listen on", &options.socket, error))?;
    end_on_signals(&options.socket)?;
    if let Some(path) = &options.control {
        let listening = parts.control(doorbell, service).listen(path);
        listening.map_err(|error| cannot("listen on", path, error))?;
    }
    let trace = Arc::clone(&parts.trace);
    let services = parts.services(options.c_bit);
    thread::spawn(move || services.run(&requests));
    let worker = parts.worker(options, config);
    thread::spawn(move || worker.run(&commands));

    println!("ready");
    let served = server.run(&mut device);
    // The worker may be in the middle of a command that nobody waits for any more; it ends with
    // the process.
    trace.event("disconnected", &[]);
    match served {
        Err(error) if !is_disconnect(&error) => {
            Err(format!("the connection to QEMU broke: {error}"))
        }
        _ => Ok(()),
    }
}

/// A QEMU that was killed may leave requests behind, and then its end shows as an error.
fn is_disconnect(error: &vfio_user::Error) -> bool {
    use vfio_user::Error::{ReceiveWithFd, StreamRead, StreamWrite};
    let kind = match error {
        ReceiveWithFd(error) => io::Error::from(*error).kind(),
        StreamRead(error) | StreamWrite(error) => error.kind(),
        _ => return false,
    };
    use io::ErrorKind::{BrokenPipe, ConnectionReset, UnexpectedEof};
    matches!(kind, BrokenPipe | ConnectionReset | UnexpectedEof)
}

/// SIGTERM and SIGINT end the process cleanly: trace lines are written as they come, so only the
/// socket is left to remove.
fn end_on_signals(socket: &Path) -> Result<(), String> {
    use signal_hook::consts::{SIGINT, SIGTERM};
    let mut signals = signal_hook::iterator::Signals::new([SIGTERM, SIGINT])
        .map_err(|error| format!("cannot catch signals: {error}"))?;
    let socket = socket.to_owned();
    thread::spawn(move || {
        if signals.forever().next().is_some() {
            let _ = fs::remove_file(&socket);
            std::process::exit(0);
        }
    });
    Ok(())
}
