// SPDX-License-Identifier: GPL-2.0
//! A machine without QEMU: the real pspd, and a vfio-user client that plays the driver.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Write};
use std::os::fd::{AsRawFd, FromRawFd};
use std::os::unix::fs::FileExt;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;
use vfio_user::Client;

pub const RAM: u64 = 16 << 20;
pub const RMP_BASE: u64 = 8 << 20;
pub const RMP_END: u64 = RMP_BASE + (1 << 20) - 1;
pub const BUFFER: u64 = 0x1_0000;

const BAR2: u32 = 2;
const MSIX: u32 = 2;
const CMDRESP: u64 = 0x10980;
const INTEN: u64 = 0x10690;
const INTSTS: u64 = 0x10694;
const EVENTFD_TRIGGER: u32 = 0x24;

pub struct Machine {
    pub dir: PathBuf,
    pub ram: File,
    pub link: link::Mapping,
    pspd: Child,
    pub client: Option<Client>,
    interrupt: File,
}

/// A fresh directory per machine.
fn scratch() -> PathBuf {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let n = NEXT.fetch_add(1, Ordering::Relaxed);
    let dir = std::env::temp_dir().join(format!("pspd-test-{}-{n}", std::process::id()));
    fs::create_dir_all(&dir).unwrap();
    dir
}

impl Machine {
    pub fn start(arguments: &[&str]) -> Machine {
        let dir = scratch();
        File::create(dir.join("link")).unwrap().set_len(link::SIZE as u64).unwrap();
        let ram = File::options().create_new(true).read(true).write(true).open(dir.join("ram"));
        let ram = ram.unwrap();
        ram.set_len(RAM).unwrap();
        let link = link::Mapping::open(&dir.join("link")).unwrap();
        let mut pspd = Command::new(env!("CARGO_BIN_EXE_pspd"))
            .args(["--socket", "psp.sock", "--link", "link", "--trace", "trace.jsonl"])
            .args(arguments)
            .current_dir(&dir)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut ready = String::new();
        BufReader::new(pspd.stdout.take().unwrap()).read_line(&mut ready).unwrap();
        assert_eq!(ready, "ready\n");

        let mut client = Client::new(&dir.join("psp.sock")).unwrap();
        client.dma_map(0, 0, RAM, ram.as_raw_fd()).unwrap();
        // SAFETY: a new descriptor that nothing else owns.
        let interrupt = unsafe { File::from_raw_fd(libc::eventfd(0, libc::EFD_NONBLOCK)) };
        let machine = Machine { dir, ram, link, pspd, client: Some(client), interrupt };
        machine.link.low.store(RAM, Ordering::Release);
        machine
    }

    /// Sets up vector 0 and enables interrupts, as a driver does.
    pub fn enable_interrupts(&mut self) {
        let eventfd = self.interrupt.as_raw_fd();
        self.client().set_irqs(MSIX, EVENTFD_TRIGGER, 0, 1, &[eventfd]).unwrap();
        self.write(INTSTS, u32::MAX);
        self.write(INTEN, u32::MAX);
    }

    /// Two CPUs as `snp_prepare` leaves them.
    pub fn prepare(&self) {
        self.link.iommu_snp.store(1, Ordering::Release);
        for cpu in &self.link.cpu[..2] {
            cpu.syscfg.store(1 << 24 | 1 << 19, Ordering::Release);
            cpu.hwcr.store(1, Ordering::Release);
            cpu.rmp_base.store(RMP_BASE, Ordering::Release);
            cpu.rmp_end.store(RMP_END, Ordering::Release);
            cpu.present.store(1, Ordering::Release);
        }
        self.wbinvd();
    }

    pub fn wbinvd(&self) {
        for cpu in self.link.present() {
            cpu.wbinvd.fetch_add(1, Ordering::AcqRel);
        }
    }

    pub fn client(&mut self) -> &mut Client {
        self.client.as_mut().unwrap()
    }

    pub fn read(&mut self, offset: u64) -> u32 {
        let mut data = [0; 4];
        self.client().region_read(BAR2, offset, &mut data).unwrap();
        u32::from_le_bytes(data)
    }

    pub fn write(&mut self, offset: u64, value: u32) {
        self.client().region_write(BAR2, offset, &value.to_le_bytes()).unwrap();
    }

    pub fn poke(&self, pa: u64, bytes: &[u8]) {
        self.ram.write_all_at(bytes, pa).unwrap();
    }

    pub fn peek(&self, pa: u64, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        self.ram.read_exact_at(&mut bytes, pa).unwrap();
        bytes
    }

    fn place(&mut self, buffer: &[u8]) {
        self.poke(BUFFER, buffer);
        let address = if buffer.is_empty() { 0 } else { BUFFER as u32 };
        self.write(0x109e0, address);
        self.write(0x109e4, 0);
    }

    /// Rings the doorbell.
    pub fn ring(&mut self, id: u32, buffer: &[u8]) {
        self.place(buffer);
        self.write(CMDRESP, id << 16 | 1);
    }

    /// Rings the doorbell of a device that may be gone before it has acknowledged the write.
    pub fn ring_and_go(&mut self, id: u32, buffer: &[u8]) {
        self.place(buffer);
        let _ = self.client().region_write(BAR2, CMDRESP, &(id << 16 | 1).to_le_bytes());
    }

    /// The status, if an answer comes in time.
    pub fn answer(&mut self, limit: Duration) -> Option<u16> {
        let end = Instant::now() + limit;
        while Instant::now() < end {
            let value = self.read(CMDRESP);
            if value >> 31 != 0 {
                return Some(value as u16);
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        None
    }

    pub fn command(&mut self, id: u32, buffer: &[u8]) -> u16 {
        self.ring(id, buffer);
        self.answer(Duration::from_secs(10)).expect("no answer")
    }

    /// Interrupts since the last look, and the status register, which it clears.
    pub fn interrupts(&mut self) -> (u64, u32) {
        let mut count = [0; 8];
        let read = (&self.interrupt).read(&mut count);
        let status = self.read(INTSTS);
        self.write(INTSTS, status);
        (read.map_or(0, |_| u64::from_ne_bytes(count)), status)
    }

    pub fn trace(&self) -> Vec<Value> {
        let text = fs::read_to_string(self.dir.join("trace.jsonl")).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// Gives an order through `--control ctl.sock` and returns the answer.
    pub fn order(&self, order: &str) -> String {
        let mut stream = UnixStream::connect(self.dir.join("ctl.sock")).unwrap();
        stream.write_all(format!("{order}\n").as_bytes()).unwrap();
        let mut answer = String::new();
        BufReader::new(stream).read_line(&mut answer).unwrap();
        answer.trim_end().to_owned()
    }

    /// Sends a signal.
    pub fn kill(&self, signal: i32) {
        // SAFETY: a plain call; the process is our child and has not been waited for.
        unsafe { libc::kill(self.pspd.id() as i32, signal) };
    }

    /// Closes the connection, and says how pspd ended.
    pub fn disconnect(&mut self) -> ExitStatus {
        self.client = None;
        self.wait()
    }

    /// How pspd ended.
    pub fn wait(&mut self) -> ExitStatus {
        let end = Instant::now() + Duration::from_secs(10);
        while Instant::now() < end {
            if let Some(status) = self.pspd.try_wait().unwrap() {
                return status;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        panic!("pspd does not end");
    }

    pub fn scan(&self) -> Value {
        let output = Command::new(env!("CARGO_BIN_EXE_pspd"))
            .args(["scan", "--ram", "ram", "--link", "link"])
            .current_dir(&self.dir)
            .output()
            .unwrap();
        std::io::stderr().write_all(&output.stderr).unwrap();
        assert!(output.status.success());
        serde_json::from_slice(&output.stdout).unwrap()
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        let _ = self.pspd.kill();
        let _ = self.pspd.wait();
        let _ = fs::remove_dir_all(&self.dir);
    }
}
