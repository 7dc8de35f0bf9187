// SPDX-License-Identifier: GPL-2.0

//! Who is asked about all guests, and who is not.

use kernel::macros::kunit_tests;

#[kunit_tests(ccp_guests)]
mod suite {
    use super::super::*;
    use crate::{
        sys::said,
        testing::check, //
    };

    struct Fake(Result);

    impl AllGuests for Fake {
        fn ask_all(&self, asked: &mut Asked) -> Result {
            asked.known += 2;
            asked.ended += 1;
            self.0
        }
    }

    static FIRST: Fake = Fake(Ok(()));
    static SECOND: Fake = Fake(Err(EIO));

    #[test]
    fn kvm_is_asked_while_it_is_registered() -> Result {
        check!(Kvm::hold().ask_all().is_err_and(|err| err == EOPNOTSUPP));
        check!(!Kvm::hold().can_ask());
        register(&FIRST)?;
        check!(Kvm::hold().can_ask());
        said::forget();
        check!(Kvm::hold()
            .ask_all()
            .is_ok_and(|asked| (asked.known, asked.ended) == (2, 1)));
        check!(said::only(&["guests-asked"]));
        check!(said::with(fmt!("status of 2 SNP guest(s), and refused 1,")));
        unregister(&FIRST);
        check!(!Kvm::hold().can_ask());
        check!(Kvm::hold().ask_all().is_err_and(|err| err == EOPNOTSUPP));
        Ok(())
    }

    #[test]
    fn one_alone_is_registered() -> Result {
        register(&SECOND)?;
        check!(register(&FIRST).is_err_and(|err| err == EBUSY));
        // Not the one that is.
        unregister(&FIRST);
        said::forget();
        check!(Kvm::hold().ask_all().is_err_and(|err| err == EIO));
        check!(said::only(&["guests-not-asked"]));
        check!(said::with(fmt!(": 2 were, and KVM has ended 1")));
        unregister(&SECOND);
        Ok(())
    }
}
