// SPDX-License-Identifier: GPL-2.0

//! Asking every CPU, and naming CPUs in messages.
//!
//! C header: `include/linux/smp.h`

use super::hotplug::CpusRead;
use kernel::{
    bindings,
    cpu::{
        nr_cpu_ids,
        CpuId, //
    },
    cpumask::{
        Cpumask,
        CpumaskVar, //
    },
    fmt,
    prelude::*, //
};

/// Runs `test` on every online CPU at once, waits, and returns the CPUs where it was true.
///
/// `test` runs in interrupt context: it must not sleep, take a lock that is not IRQ-safe, or print.
///
/// # Errors
///
/// [`ENOMEM`].
pub fn cpus_where<F: Fn() -> bool + Sync>(cpus: &CpusRead, test: F) -> Result<CpumaskVar> {
    struct Call<F> {
        test: F,
        found: *mut bindings::cpumask,
    }

    /// # Safety
    ///
    /// `call` points to a `Call<F>` that nobody changes.
    unsafe extern "C" fn on_cpu<F: Fn() -> bool + Sync>(call: *mut c_void) {
        // SAFETY: `call` is the `Call<F>` of the function below, which waits for this one. It is
        // only read, and `F` is `Sync`.
        let call = unsafe { &*call.cast_const().cast::<Call<F>>() };
        if (call.test)() {
            // SAFETY: The mask outlives the call, and the bit is set atomically.
            unsafe { bindings::cpumask_set_cpu(CpuId::current().as_u32(), call.found) };
        }
    }

    let found = CpumaskVar::new_zero(GFP_KERNEL)?;
    let mut call = Call {
        test,
        found: found.as_raw(),
    };
    // SAFETY: `on_cpu` gets the `Call<F>` it expects, and with `wait` set no CPU runs it any more
    // when this returns. This is what `on_each_cpu()` of the C API is.
    unsafe {
        bindings::on_each_cpu_cond_mask(
            None,
            Some(on_cpu::<F>),
            (&raw mut call).cast(),
            true,
            cpus.online().as_raw(),
        )
    };
    Ok(found)
}

/// Prints as a list of CPU numbers ("0-3,8").
pub struct CpuList<F>(F);

impl<F: Fn(CpuId) -> bool> CpuList<F> {
    /// The CPUs that `contains` is true for.
    pub fn new(contains: F) -> Self {
        Self(contains)
    }

    /// Whether the list has any CPU.
    pub fn is_empty(&self) -> bool {
        self.next(0, true).is_none()
    }

    /// The first CPU number from `from` on that is in the list (or is not).
    fn next(&self, from: u32, wanted: bool) -> Option<u32> {
        (from..nr_cpu_ids())
            .find(|&cpu| CpuId::from_u32(cpu).is_some_and(|id| (self.0)(id)) == wanted)
    }
}

impl<F: Fn(CpuId) -> bool> fmt::Display for CpuList<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut from = 0;
        let mut separator = "";
        while let Some(first) = self.next(from, true) {
            let end = self.next(first, false).unwrap_or(nr_cpu_ids());
            f.write_str(separator)?;
            // `end` comes after `first`, so it is not 0.
            let last = end.saturating_sub(1);
            fmt::Display::fmt(&first, f)?;
            if last != first {
                f.write_str("-")?;
                fmt::Display::fmt(&last, f)?;
            }
            separator = ",";
            from = end;
        }
        Ok(())
    }
}

/// The CPUs that are in `all` and not in `some`.
pub fn difference<'a>(all: &'a Cpumask, some: &'a Cpumask) -> CpuList<impl Fn(CpuId) -> bool + 'a> {
    CpuList::new(move |cpu| all.test(cpu) && !some.test(cpu))
}
