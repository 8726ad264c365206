//! The macro that turns a table of fields into structures and their forms in every version.
//!
//! A table reads as Kafka's schema of the message does:
//!
//! ```text
//! messages! {
//!     /// Request of Example.
//!     ExampleRequest {
//!         name: String,                                  // in every version
//!         timeout_ms: i32 [2..] = -1,                    // from version 2 on; -1 by default
//!         topics: Option<Vec<ExampleTopic>> [_, null 1..], // may be null from version 1 on
//!         epoch: i32 [3..=5, else omitted],              // left out of other versions silently
//!         rack: String [4.., tag 0],                     // a tagged field
//!     }
//!     ExampleTopic { ... }
//! }
//! ```
//!
//! What stands in brackets is a pattern for the versions that have the field (`_` for all of them),
//! then, where they apply and in this order: `null` and the versions that may have null, if these
//! are fewer (an `Option` without it may be null wherever it is); `tag` and the number of a tagged
//! field; `else omitted` for a field that a version without it leaves out of the encoding. Without
//! the last, a value that is not the default is an [`EncodeError::Absent`](crate::EncodeError)
//! there, because to leave it out would change what the message says. A field that a version does
//! not have is its default when decoded. Versions outside the range that is served are not in a
//! table: a field of all versions served has no brackets, and the fields of a structure are
//! relative to the versions that have the structure.

use crate::field::Field;
use crate::reader::{DecodeError, Reader};

/// The default of a nullable field that is empty rather than null by default.
pub(crate) fn empty<T: Default>() -> Option<T> {
    Some(T::default())
}

/// Reads one structure, and passes over what follows it, as Apache Kafka does with requests. The all-topics
/// Metadata request of librdkafka relies on it: it writes the null array of a flexible version in four bytes
/// instead of one, so that three are left.
pub(crate) fn read_first<T: Field>(mut r: Reader) -> Result<T, DecodeError> {
    T::read(&mut r)
}

/// Reads one structure and its end.
pub(crate) fn read_whole<T: Field>(mut r: Reader) -> Result<T, DecodeError> {
    let value = T::read(&mut r)?;
    r.end()?;
    Ok(value)
}

/// Turns tables of fields into structures: see the [module](self).
macro_rules! messages {
    ($(
        $(#[$meta:meta])*
        $name:ident {
            $($field:ident: $type:ty $([$($attr:tt)*])? $(= $default:expr)?),* $(,)?
        }
    )*) => {$(
        $(#[$meta])*
        #[allow(missing_docs, reason = "the names are the documentation, in the words of the protocol")]
        #[derive(Clone, Debug, PartialEq)]
        pub struct $name {
            $(
                $(#[doc = concat!("`[", stringify!($($attr)*), "]`")])?
                pub $field: $type,
            )*
        }

        impl Default for $name {
            fn default() -> Self {
                Self { $($field: messages!(@default $($default)?)),* }
            }
        }

        impl $crate::field::Field for $name {
            #[allow(unused_variables)]
            fn min_len(version: i16, flexible: bool) -> usize {
                0 $(+ messages!(@min_len version flexible $type [$($($attr)*)?]))* + usize::from(flexible)
            }

            #[allow(unused_variables, unused_mut)]
            fn read(
                r: &mut $crate::reader::Reader,
            ) -> Result<Self, $crate::reader::DecodeError> {
                $(let mut $field: $type = messages!(@read r $type [$($($attr)*)?] $($default)?);)*
                if r.flexible {
                    for _ in 0..r.tagged_fields()? {
                        let (tag, len) = r.tag()?;
                        $(messages!(@read_tagged r $field tag len [$($($attr)*)?]);)*
                        r.skip(len)?;
                    }
                }
                Ok(Self { $($field),* })
            }

            #[allow(unused_mut)]
            fn write(
                &self,
                w: &mut $crate::writer::Writer,
            ) -> Result<(), $crate::writer::EncodeError> {
                $(messages!(@write self w $field $type [$($($attr)*)?] $($default)?);)*
                if w.flexible {
                    let mut count = 0;
                    $(messages!(@count self w $field count $type [$($($attr)*)?] $($default)?);)*
                    w.put_uvarint(count);
                    if count > 0 {
                        $(messages!(@write_tagged self w $field $type [$($($attr)*)?] $($default)?);)*
                    }
                }
                Ok(())
            }

            fn sample(s: &mut $crate::sample::Sampler<'_>) -> Self {
                Self { $($field: messages!(@sample s $type [$($($attr)*)?] $($default)?)),* }
            }
        }

        impl $crate::field::Nullable for $name {
            fn null_len(_: bool) -> usize {
                1
            }

            fn read_nullable(
                r: &mut $crate::reader::Reader,
            ) -> Result<Option<Self>, $crate::reader::DecodeError> {
                let mark = <i8 as $crate::field::Field>::read(r)?;
                (mark >= 0).then(|| $crate::field::Field::read(r)).transpose()
            }

            fn write_nullable(
                value: Option<&Self>,
                w: &mut $crate::writer::Writer,
            ) -> Result<(), $crate::writer::EncodeError> {
                let Some(value) = value else {
                    w.put(&[0xff]);
                    return Ok(());
                };
                w.put(&[1]);
                $crate::field::Field::write(value, w)
            }
        }
    )*};

    (@default) => { Default::default() };
    (@default $default:expr) => { $default };

    (@min_len $version:ident $flexible:ident $type:ty []) => {
        <$type as $crate::field::Field>::min_len($version, $flexible)
    };
    (@min_len $version:ident $flexible:ident $type:ty [$in:pat, tag $($rest:tt)*]) => { 0 };
    (@min_len $version:ident $flexible:ident $type:ty [$in:pat $(, $($rest:tt)*)?]) => {
        if matches!($version, $in) {
            <$type as $crate::field::Field>::min_len($version, $flexible)
        } else {
            0
        }
    };

    (@read $r:ident $type:ty [] $($default:expr)?) => { $crate::field::Field::read($r)? };
    (@read $r:ident $type:ty [$in:pat, tag $($rest:tt)*] $($default:expr)?) => {
        messages!(@default $($default)?)
    };
    (@read $r:ident $type:ty [$in:pat, null $null:pat $(, $($rest:tt)*)?] $($default:expr)?) => {
        if matches!($r.version, $in) {
            let at = $r.at();
            let value: $type = $crate::field::Field::read($r)?;
            if value.is_none() && !matches!($r.version, $null) {
                return Err($crate::reader::DecodeError { at, fault: $crate::reader::Fault::Null });
            }
            value
        } else {
            messages!(@default $($default)?)
        }
    };
    (@read $r:ident $type:ty [$in:pat $(, else omitted)?] $($default:expr)?) => {
        if matches!($r.version, $in) {
            $crate::field::Field::read($r)?
        } else {
            messages!(@default $($default)?)
        }
    };

    (@read_tagged $r:ident $field:ident $tag:ident $len:ident [$in:pat, tag $number:literal $($rest:tt)*]) => {
        if $tag == $number && matches!($r.version, $in) {
            let began = $r.at();
            $field = $crate::field::Field::read($r)?;
            $r.tag_ends(began, $len)?;
            continue;
        }
    };
    (@read_tagged $r:ident $field:ident $tag:ident $len:ident [$($other:tt)*]) => {};

    (@write $self:ident $w:ident $field:ident $type:ty [] $($default:expr)?) => {
        $crate::field::Field::write(&$self.$field, $w)?;
    };
    (@write $self:ident $w:ident $field:ident $type:ty [$in:pat, tag $number:literal, else omitted] $($default:expr)?) => {};
    (@write $self:ident $w:ident $field:ident $type:ty [$in:pat, tag $number:literal] $($default:expr)?) => {
        if !matches!($w.version, $in) {
            messages!(@absent $self $w $field [$type] $($default)?);
        }
    };
    (@write $self:ident $w:ident $field:ident $type:ty [$in:pat, null $null:pat $(, $($rest:tt)*)?] $($default:expr)?) => {
        if $self.$field.is_none() && matches!($w.version, $in) && !matches!($w.version, $null) {
            return Err($crate::writer::EncodeError::Null {
                field: stringify!($field),
                version: $w.version,
            });
        }
        messages!(@write $self $w $field $type [$in $(, $($rest)*)?] $($default)?);
    };
    (@write $self:ident $w:ident $field:ident $type:ty [$in:pat, else omitted] $($default:expr)?) => {
        if matches!($w.version, $in) {
            $crate::field::Field::write(&$self.$field, $w)?;
        }
    };
    (@write $self:ident $w:ident $field:ident $type:ty [$in:pat] $($default:expr)?) => {
        if matches!($w.version, $in) {
            $crate::field::Field::write(&$self.$field, $w)?;
        } else {
            messages!(@absent $self $w $field [$type] $($default)?);
        }
    };

    (@absent $self:ident $w:ident $field:ident [$type:ty] $($default:expr)?) => {
        let default: $type = messages!(@default $($default)?);
        if $self.$field != default {
            return Err($crate::writer::EncodeError::Absent {
                field: stringify!($field),
                version: $w.version,
            });
        }
    };

    (@count $self:ident $w:ident $field:ident $count:ident $type:ty [$in:pat, tag $number:literal $($rest:tt)*] $($default:expr)?) => {
        let default: $type = messages!(@default $($default)?);
        if matches!($w.version, $in) && $self.$field != default {
            $count += 1;
        }
    };
    (@count $self:ident $w:ident $field:ident $count:ident $type:ty [$($other:tt)*] $($default:expr)?) => {};

    (@write_tagged $self:ident $w:ident $field:ident $type:ty [$in:pat, tag $number:literal $($rest:tt)*] $($default:expr)?) => {
        let default: $type = messages!(@default $($default)?);
        if matches!($w.version, $in) && $self.$field != default {
            $w.put_tagged($number, |w| $crate::field::Field::write(&$self.$field, w))?;
        }
    };
    (@write_tagged $self:ident $w:ident $field:ident $type:ty [$($other:tt)*] $($default:expr)?) => {};

    (@sample $s:ident $type:ty [] $($default:expr)?) => { $crate::field::Field::sample($s) };
    (@sample $s:ident $type:ty [$in:pat, tag $($rest:tt)*] $($default:expr)?) => {
        if matches!($s.version, $in) && $s.coin() {
            $crate::field::Field::sample($s)
        } else {
            messages!(@default $($default)?)
        }
    };
    (@sample $s:ident $type:ty [$in:pat, null $null:pat $(, $($rest:tt)*)?] $($default:expr)?) => {
        if matches!($s.version, $in) {
            let value: $type = $crate::field::Field::sample($s);
            if matches!($s.version, $null) {
                value
            } else {
                value.or_else($crate::table::empty)
            }
        } else {
            messages!(@default $($default)?)
        }
    };
    (@sample $s:ident $type:ty [$in:pat $(, else omitted)?] $($default:expr)?) => {
        if matches!($s.version, $in) {
            $crate::field::Field::sample($s)
        } else {
            messages!(@default $($default)?)
        }
    };
}

pub(crate) use messages;
