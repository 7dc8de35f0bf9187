// SPDX-License-Identifier: GPL-2.0
//! Serves the PSP model to QEMU as a PCI device, over vfio-user.
//!
//! Two threads: the vfio-user server answers register accesses at once and never waits for
//! anything else (QEMU holds its big lock meanwhile); the mailbox worker executes commands against
//! guest memory, which QEMU shares by DMA_MAP, and raises the interrupt.

mod cli;
mod config_space;
mod control;
mod fault;
mod generation;
mod interrupt;
mod machine;
mod mailbox;
mod memory;
mod registers;
mod scan;
mod server;
mod trace;

use std::path::Path;
use std::process::ExitCode;
use std::sync::{mpsc, Arc, Mutex};
use std::{fs, io, thread};

use clap::Parser;

use cli::{Action, Cli, Serve};
use machine::Machine;
use memory::Memory;
use registers::Registers;
use trace::Trace;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let result = match (cli.action, cli.serve) {
        (Some(Action::Scan(scan)), _) => scan::run(&scan),
        (None, Some(options)) => serve(options),
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

fn serve(options: Serve) -> Result<(), String> {
    let link = link::Mapping::open(&options.link).map_err(|error| error.to_string())?;
    let link = Arc::new(link);
    let trace = Trace::create(&options.trace)
        .map_err(|error| format!("cannot write the trace {}: {error}", options.trace.display()))?;
    let trace = Arc::new(trace);
    if let Some(dir) = &options.dump_pages {
        fs::create_dir_all(dir)
            .map_err(|error| format!("cannot make {}: {error}", dir.display()))?;
    }
    for socket in std::iter::once(&options.socket).chain(&options.control) {
        control::remove_stale_socket(socket)?;
    }

    let registers = Arc::new(Registers::new(options.device));
    let memory = Arc::new(Memory::default());
    let interrupts = Arc::new(interrupt::Interrupts::default());
    let (doorbell, commands) = mpsc::channel();
    let mut device = server::Device::new(
        options.device,
        options.irq,
        Arc::clone(&registers),
        Arc::clone(&memory),
        Arc::clone(&interrupts),
        doorbell.clone(),
    );
    let server =
        vfio_user::Server::new(&options.socket, true, server::irqs(options.irq), server::regions())
            .map_err(|error| format!("cannot listen on {}: {error}", options.socket.display()))?;
    end_on_signals(&options.socket)?;

    let faults = fault::Faults::new(options.fault.clone());
    if faults.dead_on_arrival() {
        registers.vanish();
    }
    let faults = Arc::new(Mutex::new(faults));
    let pending = Arc::new(control::Pending::default());
    if let Some(path) = &options.control {
        control::Control {
            faults: Arc::clone(&faults),
            pending: Arc::clone(&pending),
            registers: Arc::clone(&registers),
            interrupts: Arc::clone(&interrupts),
            worker: doorbell,
            link: Arc::clone(&link),
            trace: Arc::clone(&trace),
        }
        .listen(path)
        .map_err(|error| format!("cannot listen on {}: {error}", path.display()))?;
    }
    let worker = mailbox::Worker {
        psp: psp::Psp::new(options.psp_config()),
        machine: Machine { memory, link },
        registers,
        interrupts,
        faults,
        pending,
        trace: Arc::clone(&trace),
        dump_pages: options.dump_pages,
    };
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
