// SPDX-License-Identifier: GPL-2.0

//! Running a function on every CPU, and lists of CPUs in messages.
//!
//! C header: `include/linux/smp.h`

use super::hotplug::CpusRead;
use kernel::{
    bindings,
    cpu::{
        nr_cpu_ids,
        CpuId, //
    },
    cpumask::CpumaskVar,
    fmt,
    prelude::*, //
};

/// What a function returned on each CPU that was online.
pub struct PerCpu<T> {
    values: KVVec<Option<T>>,
    present: CpumaskVar,
}

impl<T: Send> PerCpu<T> {
    /// Runs `f` on every online CPU at once, one interrupt for each, and waits for what they
    /// return.
    ///
    /// `f` runs in interrupt context: it must not sleep, take a lock that is not IRQ-safe, or
    /// print.
    ///
    /// # Errors
    ///
    /// [`ENOMEM`]; nothing was run then.
    pub fn collect<F: Fn() -> T + Sync>(f: F) -> Result<Self> {
        struct Call<T, F> {
            f: F,
            slots: *mut Option<T>,
        }

        /// # Safety
        ///
        /// `call` points to a `Call<T, F>` with a slot for every CPU number, which nobody uses but
        /// the CPU of that number in this function.
        unsafe extern "C" fn on_cpu<T: Send, F: Fn() -> T + Sync>(call: *mut c_void) {
            // SAFETY: The caller promises that; it is only read, and `F` is `Sync`.
            let call = unsafe { &*call.cast_const().cast::<Call<T, F>>() };
            // CAST: `u32` to `usize` loses nothing.
            let cpu = CpuId::current().as_u32() as usize;
            // SAFETY: The slot exists and is this CPU's own, which stays this one in an interrupt.
            // It holds `None`.
            unsafe { call.slots.add(cpu).write(Some((call.f)())) };
        }

        // CAST: As above.
        let count = nr_cpu_ids() as usize;
        let mut values = KVVec::with_capacity(count, GFP_KERNEL)?;
        for _ in 0..count {
            values.push_within_capacity(None).map_err(|_| ENOMEM)?;
        }
        let cpus = CpusRead::lock();
        let present = CpumaskVar::try_clone(cpus.present())?;
        let mut call = Call {
            f,
            slots: values.as_mut_ptr(),
        };
        // SAFETY: `on_cpu` gets the `Call<T, F>` it expects, with a slot for each of
        // `nr_cpu_ids()`. With `wait` set no CPU runs it any more when this returns. This is what
        // `on_each_cpu()` of the C API is.
        unsafe {
            bindings::on_each_cpu_cond_mask(
                None,
                Some(on_cpu::<T, F>),
                (&raw mut call).cast(),
                true,
                cpus.online().as_raw(),
            )
        };
        Ok(Self { values, present })
    }
}

impl<T> PerCpu<T> {
    /// The value of one CPU.
    pub fn get(&self, cpu: CpuId) -> Option<&T> {
        // CAST: `u32` to `usize` loses nothing.
        self.values.get(cpu.as_u32() as usize)?.as_ref()
    }

    /// The values of all CPUs, by CPU number.
    pub fn as_slice(&self) -> &[Option<T>] {
        &self.values
    }

    /// The CPUs whose values pass the test.
    pub fn passing<'a>(
        &'a self,
        test: impl Fn(&T) -> bool + 'a,
    ) -> CpuList<impl Fn(CpuId) -> bool + 'a> {
        CpuList::new(move |cpu| self.get(cpu).is_some_and(&test))
    }

    /// The present CPUs whose values do not pass the test. Those that were offline have no value,
    /// and do not pass either.
    pub fn failing<'a>(
        &'a self,
        test: impl Fn(&T) -> bool + 'a,
    ) -> CpuList<impl Fn(CpuId) -> bool + 'a> {
        CpuList::new(move |cpu| self.present.test(cpu) && !self.get(cpu).is_some_and(&test))
    }
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
        self.numbers().next().is_none()
    }

    fn numbers(&self) -> impl Iterator<Item = u32> + Clone + '_ {
        (0..nr_cpu_ids()).filter(|&cpu| CpuId::from_u32(cpu).is_some_and(|id| (self.0)(id)))
    }
}

impl<F: Fn(CpuId) -> bool> fmt::Display for CpuList<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&Ranges(self.numbers()), f)
    }
}

/// Prints numbers, which ascend, as ranges.
pub struct Ranges<I>(pub I);

impl<I: Iterator<Item = u32> + Clone> fmt::Display for Ranges<I> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut numbers = self.0.clone().peekable();
        let mut separator = "";
        while let Some(first) = numbers.next() {
            let mut last = first;
            while let Some(next) = numbers.next_if_eq(&last.wrapping_add(1)) {
                last = next;
            }
            f.write_str(separator)?;
            fmt::Display::fmt(&first, f)?;
            if last != first {
                f.write_str("-")?;
                fmt::Display::fmt(&last, f)?;
            }
            separator = ",";
        }
        Ok(())
    }
}
