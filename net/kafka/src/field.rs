//! The forms that a field of a message can have.

use bytes::Bytes;
use millrace_model::TopicId;

use crate::reader::{DecodeError, Fault, Reader};
use crate::record_set::RecordSet;
use crate::sample::Sampler;
use crate::writer::{EncodeError, Writer};

/// What can be a field, an element of an array or a message.
pub(crate) trait Field: Sized {
    /// Bytes that any value has at least.
    fn min_len(version: i16, flexible: bool) -> usize;
    fn read(r: &mut Reader) -> Result<Self, DecodeError>;
    fn write(&self, w: &mut Writer) -> Result<(), EncodeError>;
    /// A value that the version can express.
    fn sample(s: &mut Sampler<'_>) -> Self;
}

/// A [`Field`] with a form for null. Strings, bytes and arrays have it in their length,
/// structures in a byte in front of them.
pub(crate) trait Nullable: Field {
    fn null_len(flexible: bool) -> usize;
    fn read_nullable(r: &mut Reader) -> Result<Option<Self>, DecodeError>;
    fn write_nullable(value: Option<&Self>, w: &mut Writer) -> Result<(), EncodeError>;
}

macro_rules! numbers {
    ($($number:ty),*) => {$(
        impl Field for $number {
            fn min_len(_: i16, _: bool) -> usize {
                size_of::<$number>()
            }
            fn read(r: &mut Reader) -> Result<Self, DecodeError> {
                r.array().map(<$number>::from_be_bytes)
            }
            fn write(&self, w: &mut Writer) -> Result<(), EncodeError> {
                w.put(&self.to_be_bytes());
                Ok(())
            }
            #[allow(clippy::cast_possible_truncation, reason = "any number will do")]
            fn sample(s: &mut Sampler<'_>) -> Self {
                s.number() as Self
            }
        }
    )*};
}

numbers!(i8, i16, u16, i32, i64);

impl Field for bool {
    fn min_len(_: i16, _: bool) -> usize {
        1
    }
    fn read(r: &mut Reader) -> Result<Self, DecodeError> {
        r.array().map(|[byte]| byte != 0)
    }
    fn write(&self, w: &mut Writer) -> Result<(), EncodeError> {
        w.put(&[u8::from(*self)]);
        Ok(())
    }
    fn sample(s: &mut Sampler<'_>) -> Self {
        s.coin()
    }
}

impl Field for TopicId {
    fn min_len(_: i16, _: bool) -> usize {
        size_of::<Self>()
    }
    fn read(r: &mut Reader) -> Result<Self, DecodeError> {
        r.array().map(Self)
    }
    fn write(&self, w: &mut Writer) -> Result<(), EncodeError> {
        w.put(&self.0);
        Ok(())
    }
    fn sample(s: &mut Sampler<'_>) -> Self {
        Self([s.byte(); 16])
    }
}

/// What has a form for null has the same form otherwise.
macro_rules! not_null {
    () => {
        fn min_len(_: i16, flexible: bool) -> usize {
            Self::null_len(flexible)
        }
        fn read(r: &mut Reader) -> Result<Self, DecodeError> {
            let at = r.at();
            Self::read_nullable(r)?.ok_or(DecodeError {
                at,
                fault: Fault::Null,
            })
        }
        fn write(&self, w: &mut Writer) -> Result<(), EncodeError> {
            Self::write_nullable(Some(self), w)
        }
    };
}

impl Field for String {
    not_null!();
    fn sample(s: &mut Sampler<'_>) -> Self {
        s.text()
    }
}

impl Nullable for String {
    fn null_len(flexible: bool) -> usize {
        if flexible { 1 } else { 2 }
    }
    fn read_nullable(r: &mut Reader) -> Result<Option<Self>, DecodeError> {
        r.string_len()?.map(|len| r.string(len)).transpose()
    }
    fn write_nullable(value: Option<&Self>, w: &mut Writer) -> Result<(), EncodeError> {
        w.put_string_len(value.map(Self::len))?;
        w.put(value.map_or(&[], |text| text.as_bytes()));
        Ok(())
    }
}

impl Field for Bytes {
    not_null!();
    fn sample(s: &mut Sampler<'_>) -> Self {
        s.bytes().into()
    }
}

impl Nullable for Bytes {
    fn null_len(flexible: bool) -> usize {
        if flexible { 1 } else { 4 }
    }
    fn read_nullable(r: &mut Reader) -> Result<Option<Self>, DecodeError> {
        r.len()?.map(|len| r.slice(len)).transpose()
    }
    fn write_nullable(value: Option<&Self>, w: &mut Writer) -> Result<(), EncodeError> {
        w.put_len(value.map(Self::len))?;
        if let Some(bytes) = value {
            w.put_bytes(bytes);
        }
        Ok(())
    }
}

impl<T: Field> Field for Vec<T> {
    not_null!();
    fn sample(s: &mut Sampler<'_>) -> Self {
        (0..s.count()).map(|_| T::sample(s)).collect()
    }
}

impl<T: Field> Nullable for Vec<T> {
    fn null_len(flexible: bool) -> usize {
        if flexible { 1 } else { 4 }
    }
    fn read_nullable(r: &mut Reader) -> Result<Option<Self>, DecodeError> {
        r.len()?.map(|len| r.elements(len)).transpose()
    }
    fn write_nullable(value: Option<&Self>, w: &mut Writer) -> Result<(), EncodeError> {
        w.put_len(value.map(Self::len))?;
        value
            .into_iter()
            .flatten()
            .try_for_each(|element| element.write(w))
    }
}

impl<T: Nullable> Field for Option<T> {
    fn min_len(_: i16, flexible: bool) -> usize {
        T::null_len(flexible)
    }
    fn read(r: &mut Reader) -> Result<Self, DecodeError> {
        T::read_nullable(r)
    }
    fn write(&self, w: &mut Writer) -> Result<(), EncodeError> {
        T::write_nullable(self.as_ref(), w)
    }
    fn sample(s: &mut Sampler<'_>) -> Self {
        (s.count() > 0).then(|| T::sample(s))
    }
}

/// Never null when written, for there are clients that take null for a broken frame; empty when
/// read as null.
impl Field for RecordSet {
    fn min_len(_: i16, flexible: bool) -> usize {
        Bytes::null_len(flexible)
    }
    fn read(r: &mut Reader) -> Result<Self, DecodeError> {
        Ok(Bytes::read_nullable(r)?.map_or_else(Self::default, Self::from))
    }
    fn write(&self, w: &mut Writer) -> Result<(), EncodeError> {
        w.put_len(Some(self.len()))?;
        self.chunks().iter().for_each(|chunk| w.put_bytes(chunk));
        Ok(())
    }
    fn sample(s: &mut Sampler<'_>) -> Self {
        (0..s.count()).map(|_| Bytes::sample(s)).collect()
    }
}
