// SPDX-License-Identifier: GPL-2.0

//! Running a function on several CPUs at once.
//!
//! C header: `include/linux/workqueue.h`

use super::hotplug::CpusRead;
use core::ptr::NonNull;
use kernel::{
    bindings,
    cpu::{
        nr_cpu_ids,
        CpuId, //
    },
    prelude::*,
    sync::static_lock_class, //
};

/// A workqueue of its own. Dropping it waits until nothing that was queued runs any more.
struct Queue(NonNull<bindings::workqueue_struct>);

impl Queue {
    fn new(name: &'static CStr) -> Result<Self> {
        // SAFETY: The format takes one string, which is static. An unbound queue leaves isolated
        // CPUs alone. 0: as many at a time as the kernel finds reasonable.
        let queue = unsafe {
            bindings::alloc_workqueue_noprof(
                c"%s".as_char_ptr(),
                bindings::wq_flags_WQ_UNBOUND,
                0,
                name.as_char_ptr(),
            )
        };
        Ok(Self(NonNull::new(queue).ok_or(ENOMEM)?))
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        // SAFETY: `new()` made it, and nobody can queue anything any more. This waits for what is
        // queued.
        unsafe { bindings::destroy_workqueue(self.0.as_ptr()) };
    }
}

/// The work of one kernel thread.
#[repr(C)]
struct Item<F> {
    work: bindings::work_struct,
    f: *const F,
}

/// # Safety
///
/// `work` is the first field of an `Item<F>` whose `f` lives until this returns.
unsafe extern "C" fn run<F: Fn() + Sync>(work: *mut bindings::work_struct) {
    // SAFETY: The caller promises that.
    let f = unsafe { &*(*work.cast::<Item<F>>()).f };
    f();
}

/// Kernel threads that run `f`, until this is dropped: that waits for them.
struct Helpers<'a, F> {
    // Dropped first: the items are in use until then.
    _queue: Queue,
    _items: KVVec<Item<F>>,
    _f: &'a F,
}

impl<'a, F: Fn() + Sync> Helpers<'a, F> {
    /// Queues `f` up to `count` times, spread over the online CPUs.
    fn start(name: &'static CStr, count: usize, f: &'a F) -> Result<Self> {
        let queue = Queue::new(name)?;
        let cpus = CpusRead::lock();
        // CAST: `u32` to `usize` loses nothing.
        let online = cpus.online().weight() as usize;
        // This CPU is busy with `f` itself.
        let count = count.min(online.saturating_sub(1));
        let stride = online.checked_div(count).unwrap_or(1);
        let mut items = KVVec::with_capacity(count, GFP_KERNEL)?;
        for _ in 0..count {
            let work = bindings::work_struct::default();
            items
                .push_within_capacity(Item { work, f })
                .map_err(|_| ENOMEM)?;
        }
        let every = (0..nr_cpu_ids())
            .filter(|&cpu| CpuId::from_u32(cpu).is_some_and(|id| cpus.online().test(id)))
            .step_by(stride.max(1));
        for (item, cpu) in items.iter_mut().zip(every) {
            let work = &raw mut item.work;
            // SAFETY: The item stays where it is (nothing is added to the vector any more) until
            // `queue` is dropped, which waits for it; `f` lives longer than that. `run` finds both:
            // `work` is the first field.
            unsafe {
                bindings::init_work_with_key(
                    work,
                    Some(run::<F>),
                    false,
                    // Lockdep wants one name for one class, whoever calls.
                    c"(work_completion)on_several".as_char_ptr(),
                    static_lock_class!().as_ptr(),
                );
                // CAST: A CPU number.
                bindings::queue_work_on(cpu as c_int, queue.0.as_ptr(), work);
            }
        }
        Ok(Self {
            _queue: queue,
            _items: items,
            _f: f,
        })
    }
}

/// Runs `f` here and at the same time on up to `helpers` kernel threads, spread over the online
/// CPUs and thereby over caches and memory controllers. Returns when all have returned. Sleeps.
///
/// Each call of `f` takes its share of the work from a counter or the like, and may find none left.
/// Without memory for helpers `f` runs here alone.
pub fn on_several<F: Fn() + Sync>(name: &'static CStr, helpers: usize, f: F) {
    let helpers = Helpers::start(name, helpers, &f);
    f();
    // Waits for them.
    drop(helpers);
}
