// SPDX-License-Identifier: GPL-2.0

//! Keeping a module loaded.
//!
//! C header: `include/linux/module.h`

use kernel::{
    bindings,
    prelude::*, //
};

#[allow(improper_ctypes, reason = "its address alone is used")]
extern "C" {
    /// `THIS_MODULE` (`include/linux/init.h`).
    static __this_module: bindings::module;
}

/// The module that this code is part of, as the owner of operations: an open file keeps it loaded.
pub const fn this_module() -> *mut bindings::module {
    (&raw const __this_module).cast_mut()
}

/// A reference to a module: it cannot be unloaded while this exists.
pub struct ModulePin(&'static ThisModule);

impl ModulePin {
    /// Pins the module that this code is part of.
    #[must_use]
    pub fn new(module: &'static ThisModule) -> Self {
        // SAFETY: The module is loaded, for this is its code, so its count may be raised.
        unsafe { bindings::__module_get(module.as_ptr()) };
        Self(module)
    }
}

impl Drop for ModulePin {
    fn drop(&mut self) {
        // SAFETY: `new()` raised the count. The code runs on behalf of a caller that keeps the
        // module loaded for the length of the call.
        unsafe { bindings::module_put(self.0.as_ptr()) };
    }
}
