//! Numbers and identities that the brokers of a cluster agree on.

use std::fmt;
use std::str::FromStr;

use crate::ids::number;

number!(
    /// One uptime of a broker: the place of its registration in the metadata log, so that a
    /// later one is greater, whichever broker it is (KIP-903).
    BrokerEpoch(u64)
);
number!(
    /// Version of a partition's state: grows by one with every change of it (KIP-841).
    PartitionEpoch(u32)
);

impl PartitionEpoch {
    /// The version after this one.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

macro_rules! identity {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
        #[derive(rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
        #[rkyv(derive(Clone, Copy, PartialEq, Eq))]
        pub struct $name(pub [u8; 16]);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self)
            }
        }

        impl FromStr for $name {
            type Err = IdentityError;
            fn from_str(text: &str) -> Result<Self, Self::Err> {
                if text.len() != 32 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
                    return Err(IdentityError);
                }
                let number = u128::from_str_radix(text, 16).map_err(|_| IdentityError)?;
                Ok(Self(number.to_be_bytes()))
            }
        }
    };
}

identity!(
    /// Identity of a cluster, drawn when it is made. A broker refuses peers of another.
    ClusterId
);
identity!(
    /// Identity of one run of a broker's process, drawn when it starts: it tells a
    /// registration that is sent again from a second process with the same number.
    IncarnationId
);

/// The text was not 32 hexadecimal digits.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("an identity is 32 hexadecimal digits")]
pub struct IdentityError;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identity_is_read_as_it_is_written() {
        let id = ClusterId([0xa5; 16]);
        assert_eq!(id.to_string().parse(), Ok(id));
        assert_eq!("a5".parse::<ClusterId>(), Err(IdentityError));
        assert_eq!("+".repeat(32).parse::<ClusterId>(), Err(IdentityError));
    }
}
