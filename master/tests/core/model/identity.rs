//! When two pools are one state of the model: when from then on the same can happen to both, and the same follows.
//!
//! The walk goes over all that a pool would write down, so that a new field counts without anybody thinking of it. Left out is what the core never decides by:
//! - The clock: times are relative to now. Of a moment longer ago than [`LONG_AGO`], only its order to the last failure counts (`Backoff::over_at`).
//! - Numbers of workers: the core asks which of two is the older one, no more, and a new one is the newest. So only their order counts.
//! - Of a worker that is told to go or killed, everything but its deadlines and its connection: it is chosen for nothing any more. So it does not matter either which of several it is.
//! - What is only told ([`TOLD_TYPES`], [`TOLD_FIELDS`]).
//!
//! `nothing_is_lost_by_what_the_identity_leaves_out` compares with a search that keeps all of it but the clock. It finds a core that decides by one of these only where that shows within its bounds, so the list has to be true by itself.

use dutch_master::core::{Pool, State, Time, Worker, WorkerId};
use serde::Serialize;
use serde::de::value::Error;
use serde::ser::{self, Error as _};

/// Types that decide nothing.
const TOLD_TYPES: [&str; 2] = ["Failure", "WhyGo"];

/// Fields that decide nothing.
const TOLD_FIELDS: [(&str, &str); 7] = [
    ("Backoff", "unreported_ms"),
    ("Pool", "last_failed"),
    ("Pool", "last_failure"),
    ("Pool", "last_worker"),
    ("Pool", "restarts_done"),
    ("Worker", "id"),
    ("Worker", "ordered_at"),
];

/// What is the same in every state of a lab, or is written down apart.
const APART: [(&str, &str); 3] = [("Pool", "actions"), ("Pool", "config"), ("Pool", "workers")];

/// Nothing is compared with what was earlier than this, in milliseconds from now: a worker that has run for 10 s has shown that it works.
const LONG_AGO: i64 = -10_000;

/// What a pool is, as numbers.
pub(super) fn identity(now: Time, pool: &Pool) -> Vec<i64> {
    let (gone, kept): (Vec<&Worker>, Vec<&Worker>) = pool.workers().partition(|worker| matches!(worker.state, State::Draining { .. } | State::Killing));
    let ids = kept.iter().map(|worker| worker.id).collect();
    let mut walk = Walk { now, ids: Some(ids), ..Walk::default() };
    walk.add(pool);
    walk.add(&kept);
    let mut gone: Vec<Vec<i64>> = gone.into_iter().map(|worker| walk.apart(&(worker.state, worker.connected && worker.state != State::Killing))).collect();
    gone.sort_unstable();
    walk.numbers.extend(gone.into_iter().flatten());
    walk.numbers
}

/// The same with only the clock left out.
pub(super) fn full_identity(now: Time, pool: &Pool) -> Vec<i64> {
    let mut walk = Walk { now, ..Walk::default() };
    walk.add(pool);
    walk.add(&pool.workers().collect::<Vec<_>>());
    walk.numbers
}

#[derive(Default)]
struct Walk {
    now: Time,
    /// The workers that are counted through, in their order. `None`: nothing is left out.
    ids: Option<Vec<WorkerId>>,
    last_failure: Time,
    /// The field that is being looked at.
    field: &'static str,
    numbers: Vec<i64>,
}

type Result<T = ()> = std::result::Result<T, Error>;

impl Walk {
    fn add(&mut self, value: &impl Serialize) {
        value.serialize(self).expect("a pool consists of what the walk knows");
    }

    fn apart(&mut self, value: &impl Serialize) -> Vec<i64> {
        let before = self.numbers.len();
        self.add(value);
        self.numbers.split_off(before)
    }

    fn number(&mut self, number: impl TryInto<i64>) -> Result {
        self.numbers.push(number.try_into().map_err(|_| Error::custom("a number that is too large"))?);
        Ok(())
    }

    fn time(&mut self, at: Time) {
        if self.field == "last_failure" {
            self.last_failure = at;
        }
        let relative = at.0.cast_signed() - self.now.0.cast_signed();
        let before_the_failure = i64::from(at < self.last_failure);
        self.numbers.push(if relative > LONG_AGO { relative } else { LONG_AGO - before_the_failure });
    }

    /// A variant of an enum; whether it has to be looked at.
    fn variant(&mut self, of: &str, index: u32) -> bool {
        let decides = self.ids.is_none() || !TOLD_TYPES.contains(&of);
        if decides {
            self.numbers.push(index.into());
        }
        decides
    }

    fn field(&mut self, of: &str, name: &'static str, value: &(impl Serialize + ?Sized)) -> Result {
        if APART.contains(&(of, name)) || (self.ids.is_some() && TOLD_FIELDS.contains(&(of, name))) {
            return Ok(());
        }
        self.field = name;
        value.serialize(&mut *self)?;
        match (name, &self.ids) {
            // Whose failures belong to a wave that has been counted: a question of the order, too.
            ("counted_up_to", Some(ids)) => {
                let counted = self.numbers.pop().unwrap_or_default();
                let older = ids.iter().filter(|id| i64::from(**id) <= counted).count();
                self.number(older)
            }
            _ => Ok(()),
        }
    }
}

macro_rules! numbers {
    ($($method:ident: $type:ty),*) => { $(fn $method(self, number: $type) -> Result { self.number(number) })* };
}

impl<'a> ser::Serializer for &'a mut Walk {
    type Ok = ();
    type Error = Error;
    type SerializeSeq = Part<'a>;
    type SerializeTuple = Part<'a>;
    type SerializeTupleStruct = Part<'a>;
    type SerializeTupleVariant = Part<'a>;
    type SerializeMap = Part<'a>;
    type SerializeStruct = Part<'a>;
    type SerializeStructVariant = Part<'a>;

    numbers!(serialize_bool: bool, serialize_i8: i8, serialize_i16: i16, serialize_i32: i32, serialize_i64: i64);
    numbers!(serialize_u8: u8, serialize_u16: u16, serialize_u32: u32, serialize_u64: u64);

    fn serialize_f32(self, _: f32) -> Result {
        Err(Error::custom("a pool knows no fractions"))
    }

    fn serialize_f64(self, _: f64) -> Result {
        Err(Error::custom("a pool knows no fractions"))
    }

    fn serialize_char(self, character: char) -> Result {
        self.number(u32::from(character))
    }

    fn serialize_str(self, text: &str) -> Result {
        self.serialize_bytes(text.as_bytes())
    }

    fn serialize_bytes(self, bytes: &[u8]) -> Result {
        self.number(bytes.len())?;
        self.numbers.extend(bytes.iter().map(|byte| i64::from(*byte)));
        Ok(())
    }

    fn serialize_none(self) -> Result {
        self.number(0)
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result {
        self.number(1)?;
        value.serialize(self)
    }

    fn serialize_unit(self) -> Result {
        Ok(())
    }

    fn serialize_unit_struct(self, _: &'static str) -> Result {
        Ok(())
    }

    fn serialize_unit_variant(self, of: &'static str, index: u32, _: &'static str) -> Result {
        self.variant(of, index);
        Ok(())
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(self, name: &'static str, value: &T) -> Result {
        value.serialize(&mut *self)?;
        if name == "Time" {
            let at = self.numbers.pop().unwrap_or_default();
            self.time(Time(at.cast_unsigned()));
        }
        Ok(())
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(self, of: &'static str, index: u32, _: &'static str, value: &T) -> Result {
        if self.variant(of, index) { value.serialize(self) } else { Ok(()) }
    }

    fn serialize_seq(self, length: Option<usize>) -> Result<Part<'a>> {
        self.number(length.ok_or_else(|| Error::custom("a list of unknown length"))?)?;
        Ok(Part { walk: self, of: "", decides: true })
    }

    fn serialize_map(self, length: Option<usize>) -> Result<Part<'a>> {
        self.serialize_seq(length)
    }

    fn serialize_tuple(self, _: usize) -> Result<Part<'a>> {
        Ok(Part { walk: self, of: "", decides: true })
    }

    fn serialize_tuple_struct(self, of: &'static str, _: usize) -> Result<Part<'a>> {
        Ok(Part { walk: self, of, decides: true })
    }

    fn serialize_tuple_variant(self, of: &'static str, index: u32, _: &'static str, _: usize) -> Result<Part<'a>> {
        let decides = self.variant(of, index);
        Ok(Part { walk: self, of, decides })
    }

    fn serialize_struct(self, of: &'static str, _: usize) -> Result<Part<'a>> {
        Ok(Part { walk: self, of, decides: true })
    }

    fn serialize_struct_variant(self, of: &'static str, index: u32, variant: &'static str, length: usize) -> Result<Part<'a>> {
        self.serialize_tuple_variant(of, index, variant, length)
    }
}

/// The inside of something.
struct Part<'a> {
    walk: &'a mut Walk,
    of: &'static str,
    decides: bool,
}

macro_rules! part {
    ($($kind:ident: $method:ident($($name:ident)?)),*) => { $(
        impl ser::$kind for Part<'_> {
            type Ok = ();
            type Error = Error;

            fn $method<T: Serialize + ?Sized>(&mut self, $($name: &'static str,)? value: &T) -> Result {
                let name = [$($name,)? ""][0];
                if self.decides { self.walk.field(self.of, name, value) } else { Ok(()) }
            }

            fn end(self) -> Result {
                Ok(())
            }
        }
    )* };
}

part!(
    SerializeSeq: serialize_element(),
    SerializeTuple: serialize_element(),
    SerializeTupleStruct: serialize_field(),
    SerializeTupleVariant: serialize_field(),
    SerializeStruct: serialize_field(name),
    SerializeStructVariant: serialize_field(name)
);

impl ser::SerializeMap for Part<'_> {
    type Ok = ();
    type Error = Error;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result {
        key.serialize(&mut *self.walk)
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result {
        value.serialize(&mut *self.walk)
    }

    fn end(self) -> Result {
        Ok(())
    }
}
