//! Faults that tests plant in a crate on purpose, to prove that simulators notice them.

/// Fills a module with the faults that can be planted in its crate: the enumeration `Planted`, `plant`, and the
/// question `is_planted`. One fault is planted at a time in a thread. Without the crate's feature
/// `planted-faults` nothing can be planted, and the question is a constant.
#[macro_export]
macro_rules! planted_faults {
    ($($(#[$doc:meta])* $fault:ident,)+) => {
        /// A way in which this is broken on purpose.
        #[cfg_attr(
            not(feature = "planted-faults"),
            allow(unreachable_pub, reason = "public with the feature")
        )]
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Planted {
            $($(#[$doc])* $fault,)+
        }

        #[cfg(feature = "planted-faults")]
        thread_local! {
            static PLANTED: std::cell::Cell<Option<Planted>> = const { std::cell::Cell::new(None) };
        }

        /// Plants this fault in this thread, or takes away what is planted.
        #[cfg(feature = "planted-faults")]
        pub fn plant(fault: Option<Planted>) {
            PLANTED.set(fault);
        }

        /// Whether this fault is planted here.
        pub(crate) fn is_planted(fault: Planted) -> bool {
            #[cfg(feature = "planted-faults")]
            let planted = PLANTED.get() == Some(fault);
            #[cfg(not(feature = "planted-faults"))]
            let planted = {
                let _ = fault;
                false
            };
            planted
        }
    };
}
