// SPDX-License-Identifier: GPL-2.0
//! KVM: an SNP VM with guest_memfd, launched step by step. What a VMM would copy from.

use std::fs::{File, OpenOptions};
use std::os::fd::{AsRawFd, FromRawFd};

use kvm_bindings::*;
use kvm_ioctls::{Cap, Kvm, VcpuFd, VmFd};

use crate::guest::{self, at};
use crate::image::{Image, Kind, Page};
use crate::Result;

/// KVM_CAP_EXIT_HYPERCALL: which hypercalls exit. MAP_GPA_RANGE (12) changes states of pages.
const MAP_GPA_RANGE: u64 = 1 << 12;

// include/uapi/linux/kvm_snp.h.
const ENABLE_DIRECT_VMSA: u32 = 0x53000;
pub const SET_VCPU_STATE: u32 = 0x53001;
pub const GET_VCPU_STATE: u32 = 0x53002;
pub const VMSA_VALID: u64 = 1;

/// `struct kvm_sev_snp_vcpu_state`.
#[repr(C)]
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VcpuState {
    pub valid_fields: u64,
    pub vmsa_gpa: u64,
    pub ghcb_gpa: u64,
    pub pad: [u64; 5],
}

/// What a step ended with: errno and firmware's status.
#[derive(Clone, Copy, Debug)]
pub struct Refused {
    pub errno: i32,
    pub status: u32,
}

impl std::fmt::Display for Refused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let error = std::io::Error::from_raw_os_error(self.errno);
        write!(f, "{error}, firmware's status {:#x}", self.status)
    }
}

impl std::error::Error for Refused {}

/// A VM of any type, with memory that may be private.
pub struct Vm {
    pub kvm: Kvm,
    pub fd: VmFd,
    sev: File,
    private: Option<File>,
    /// The memory that is shared with the guest, and where what is launched is copied from.
    memory: *mut u8,
}

// SAFETY: The memory is shared with the guest in any case, and every access is volatile.
unsafe impl Sync for Vm {}

impl Drop for Vm {
    /// Frees the shared memory. Its addresses stay the guest's: a vCPU that is still open may write
    /// there.
    fn drop(&mut self) {
        // SAFETY: The mapping that new() made; nobody has a reference to what is in it.
        unsafe { libc::madvise(self.memory.cast(), guest::MEMORY as usize, libc::MADV_DONTNEED) };
    }
}

impl Vm {
    /// A VM of this type; an SNP VM is initialised, and all of its memory is private.
    pub fn new(vm_type: u32) -> Result<Self> {
        let kvm = Kvm::new()?;
        let fd = kvm.create_vm_with_type(vm_type.into())?;
        let sev = OpenOptions::new().read(true).write(true).open("/dev/sev")?;
        // SAFETY: A new mapping.
        let memory = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                guest::MEMORY as usize,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
                -1,
                0,
            )
        };
        if memory == libc::MAP_FAILED {
            return Err(std::io::Error::last_os_error().into());
        }
        let mut vm = Self { kvm, fd, sev, private: None, memory: memory.cast() };
        if vm_type == KVM_X86_SNP_VM {
            vm.command(sev_cmd_id_KVM_SEV_INIT2, &mut kvm_sev_init::default())?;
            vm.fd.enable_cap(&kvm_enable_cap {
                cap: Cap::ExitHypercall as u32,
                args: [MAP_GPA_RANGE, 0, 0, 0],
                ..Default::default()
            })?;
            vm.back()?;
            vm.set_private(0, guest::MEMORY, true)?;
        }
        Ok(vm)
    }

    fn back(&mut self) -> Result<()> {
        let size = guest::MEMORY;
        let memfd =
            self.fd.create_guest_memfd(kvm_create_guest_memfd { size, ..Default::default() })?;
        // SAFETY: A new file descriptor, which nobody else has.
        self.private = Some(unsafe { File::from_raw_fd(memfd) });
        let region = kvm_userspace_memory_region2 {
            flags: KVM_MEM_GUEST_MEMFD,
            memory_size: size,
            userspace_addr: self.memory as u64,
            guest_memfd: memfd as u32,
            ..Default::default()
        };
        // SAFETY: The mapping is as large, and stays as long as this process.
        unsafe { self.fd.set_user_memory_region2(region)? };
        Ok(())
    }

    /// Whether accesses to a range are to private memory.
    pub fn set_private(&self, gpa: u64, size: u64, private: bool) -> Result<()> {
        let attributes = if private { u64::from(KVM_MEMORY_ATTRIBUTE_PRIVATE) } else { 0 };
        let range = kvm_memory_attributes { address: gpa, size, attributes, flags: 0 };
        Ok(self.fd.set_memory_attributes(range)?)
    }

    /// Gives the private page at this address back to the host.
    pub fn give_back(&self, gpa: u64) -> Result<()> {
        self.allocate(libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE, gpa)
    }

    /// fallocate() of the private page at this address.
    fn allocate(&self, mode: i32, gpa: u64) -> Result<()> {
        let memfd = self.private.as_ref().ok_or("no private memory")?;
        // SAFETY: Takes any arguments.
        match unsafe { libc::fallocate(memfd.as_raw_fd(), mode, gpa as i64, 4096) } {
            0 => Ok(()),
            _ => Err(std::io::Error::last_os_error().into()),
        }
    }

    /// KVM_MEMORY_ENCRYPT_OP.
    pub fn command<T>(&self, id: sev_cmd_id, data: &mut T) -> std::result::Result<(), Refused> {
        let mut command = kvm_sev_cmd {
            id,
            data: &raw mut *data as u64,
            sev_fd: self.sev.as_raw_fd() as u32,
            ..Default::default()
        };
        let result = self.fd.encrypt_op_sev(&mut command);
        result.map_err(|error| Refused { errno: error.errno(), status: command.error })
    }

    /// VMSAs will be bound to vCPUs.
    pub fn enable_direct_vmsa(&self) -> std::result::Result<(), Refused> {
        let mut command = kvm_sev_cmd { id: ENABLE_DIRECT_VMSA, ..Default::default() };
        let result = self.fd.encrypt_op_sev(&mut command);
        result.map_err(|error| Refused { errno: error.errno(), status: command.error })
    }

    pub fn start(&self, policy: u64) -> std::result::Result<(), Refused> {
        let mut start = kvm_sev_snp_launch_start { policy, ..Default::default() };
        self.command(sev_cmd_id_KVM_SEV_SNP_LAUNCH_START, &mut start)
    }

    /// SNP_LAUNCH_UPDATE with any arguments. The source is at the same offset of the shared memory.
    pub fn update(&self, kind: Kind, gpa: u64, len: u64) -> std::result::Result<(), Refused> {
        let mut update = kvm_sev_snp_launch_update {
            gfn_start: gpa / 4096,
            uaddr: self.memory as u64 + gpa,
            len,
            type_: kind as u8,
            ..Default::default()
        };
        self.command(sev_cmd_id_KVM_SEV_SNP_LAUNCH_UPDATE, &mut update)
    }

    /// Launches a page. One that cannot hold a VMSA, because of where KVM has it from, is given
    /// back for another one. The kernel hands out first what it got back last, so a page at the end
    /// of the guest's memory takes it.
    pub fn launch(&self, page: &Page) -> Result<()> {
        for spare in 1..=10 {
            self.write(page.gpa, &page.data);
            match self.update(page.kind, page.gpa, 4096) {
                Err(refused) if refused.errno == libc::EAGAIN => {
                    self.give_back(page.gpa)?;
                    self.allocate(libc::FALLOC_FL_KEEP_SIZE, guest::MEMORY - spare * 4096)?;
                }
                result => return Ok(result?),
            }
        }
        Err("no page for a VMSA".into())
    }

    pub fn finish(&self) -> std::result::Result<(), Refused> {
        let mut finish = kvm_sev_snp_launch_finish::default();
        self.command(sev_cmd_id_KVM_SEV_SNP_LAUNCH_FINISH, &mut finish)
    }

    /// Writes to the shared memory.
    pub fn write(&self, gpa: u64, data: &[u8]) {
        for (offset, byte) in data.iter().enumerate() {
            let offset = gpa as usize + offset;
            assert!(offset < guest::MEMORY as usize);
            // SAFETY: Inside of the mapping.
            unsafe { self.memory.add(offset).write_volatile(*byte) };
        }
    }

    /// Reads a byte of the shared memory.
    pub fn read(&self, gpa: u64) -> u8 {
        assert!(gpa < guest::MEMORY);
        // SAFETY: Inside of the mapping.
        unsafe { self.memory.add(gpa as usize).read_volatile() }
    }

    /// A vCPU with the CPUID that KVM supports.
    pub fn vcpu(&self, number: u64) -> Result<VcpuFd> {
        let vcpu = self.fd.create_vcpu(number)?;
        vcpu.set_cpuid2(&self.kvm.get_supported_cpuid(KVM_MAX_CPUID_ENTRIES)?)?;
        Ok(vcpu)
    }

    /// Launches all of an image but for LAUNCH_FINISH, and makes shared what is.
    pub fn launch_image(&self, image: &Image) -> Result<()> {
        self.launch_in_steps(image, |_| ())
    }

    /// The same, with a call before each page.
    pub fn launch_in_steps(&self, image: &Image, before: impl Fn(usize)) -> Result<()> {
        for gpa in &image.shared {
            self.set_private(*gpa, 4096, false)?;
        }
        self.start(image.policy)?;
        for (number, page) in image.pages.iter().enumerate() {
            before(number);
            self.launch(page)?;
        }
        // What is there was for the measurement alone; from here on it is what is shared.
        self.write(0, &vec![0; guest::MEMORY as usize]);
        Ok(())
    }
}

/// KVM_MEMORY_ENCRYPT_OP of a vCPU.
pub fn vcpu_command(
    vcpu: &VcpuFd,
    id: u32,
    state: &mut VcpuState,
) -> std::result::Result<(), Refused> {
    /// `_IOWR(KVMIO, 0xba, unsigned long)`.
    const KVM_MEMORY_ENCRYPT_OP: libc::c_ulong = 0xc008_aeba;
    let mut command = kvm_sev_cmd { id, data: &raw mut *state as u64, ..Default::default() };
    // SAFETY: The command and what its data points to are as the header has them.
    match unsafe { libc::ioctl(vcpu.as_raw_fd(), KVM_MEMORY_ENCRYPT_OP, &raw mut command) } {
        0 => Ok(()),
        _ => Err(Refused {
            errno: std::io::Error::last_os_error().raw_os_error().unwrap_or(0),
            status: command.error,
        }),
    }
}

/// Where a vCPU begins whose VMSA KVM makes: what `image::vmsa()` says for others.
pub fn set_registers(vcpu: &VcpuFd, number: u64) -> Result<()> {
    let data =
        kvm_segment { limit: !0, type_: 3, present: 1, s: 1, g: 1, db: 1, ..Default::default() };
    let code = kvm_segment { selector: 8, type_: 11, l: 1, db: 0, ..data };
    let mut sregs = vcpu.get_sregs()?;
    (sregs.cs, sregs.ds, sregs.es, sregs.fs) = (code, data, data, data);
    (sregs.gs, sregs.ss) = (data, data);
    sregs.gdt = kvm_dtable { base: at::TABLES, limit: 15, ..Default::default() };
    sregs.idt = kvm_dtable { base: at::TABLES + 256, limit: 30 * 16 - 1, ..Default::default() };
    (sregs.cr0, sregs.cr3, sregs.cr4, sregs.efer) = (0x8000_0011, at::PML4, 0x220, 0x500);
    vcpu.set_sregs(&sregs)?;
    // The boot vCPU is to start nobody: the others begin by themselves.
    let rip = if number == 0 { at::CODE } else { guest::ap_entry() };
    vcpu.set_regs(&kvm_regs {
        rip,
        rdi: number,
        rsp: at::STACK + 4096,
        rflags: 2,
        ..Default::default()
    })?;
    Ok(())
}
