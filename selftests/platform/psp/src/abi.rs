// SPDX-License-Identifier: GPL-2.0
//! How structures of the ABI are written down: packed and little-endian, as firmware has them.

/// Structures with fields of alignment 1, so that nothing lies between them.
macro_rules! structures {
    ($($(#[$doc:meta])* $name:ident { $($(#[$field_doc:meta])* $field:ident: $type:ty,)* })*) => {
        $(
            $(#[$doc])*
            #[derive(Clone, Debug, PartialEq, Eq)]
            #[derive(zerocopy::FromBytes, zerocopy::IntoBytes, zerocopy::Immutable)]
            #[derive(zerocopy::KnownLayout, zerocopy::Unaligned)]
            #[repr(C)]
            pub(crate) struct $name {
                $($(#[$field_doc])* pub(crate) $field: $type,)*
            }
        )*
    };
}

pub(crate) use structures;
