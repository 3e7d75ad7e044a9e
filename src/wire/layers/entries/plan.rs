//! Which fields of an RPC's requests are counted, as the descriptors and the table of RPCs have it.

use std::collections::{BTreeMap, HashMap};

use prost_reflect::{DescriptorPool, FieldDescriptor, Kind, MessageDescriptor};

use super::TooMany;
use crate::{
    limits::{ENTRIES_TOLERANCE, REQUEST_FIELDS_MAX},
    proto::DESCRIPTORS,
    rpc::{REPEATED, RPCS},
};

/// These messages stay encoded (`build.rs`), and are counted when they are scanned.
const STAYS_ENCODED: &str = "google.pubsub.v1.PublishRequest.messages";
/// Of the shortest entry, its key and its length.
const ENTRY_BYTES_MIN: usize = 2;

/// The messages that a request may hold, itself the first.
#[derive(Debug, Default)]
pub(super) struct Plan {
    messages: Vec<Vec<Field>>,
    limits: Vec<Limit>,
    harmless_bytes: usize,
}

/// A field of a message.
#[derive(Clone, Copy, Debug)]
pub(super) struct Field {
    number: u32,
    /// If it is repeated.
    pub(super) counted: Option<Counted>,
    /// Which message it is, if it is one.
    pub(super) message: Option<usize>,
    /// Its bytes are copied when it is decoded.
    pub(super) is_copied: bool,
}

/// A field whose entries are counted.
#[derive(Clone, Copy, Debug)]
pub(super) struct Counted {
    /// Among the counted fields.
    pub(super) index: usize,
    /// Its entries are messages.
    pub(super) is_message: bool,
    /// Its entries may come without their keys.
    pub(super) is_packed: bool,
}

#[derive(Debug)]
struct Limit {
    field: &'static str,
    max: usize,
}

impl Plan {
    /// The request itself among the messages.
    pub(super) const REQUEST: usize = 0;

    fn of(request: &MessageDescriptor) -> Self {
        let mut plan = Self {
            harmless_bytes: ENTRY_BYTES_MIN * REQUEST_FIELDS_MAX,
            ..Self::default()
        };
        plan.add(request, &mut HashMap::new());
        plan
    }

    /// Adds a message with all that it may hold, and returns where it is. `known` are those that were added, as
    /// messages may hold their own kind.
    fn add(&mut self, message: &MessageDescriptor, known: &mut HashMap<String, usize>) -> usize {
        let name = message.full_name().to_owned();
        if let Some(&at) = known.get(&name) {
            return at;
        }
        let at = self.messages.len();
        known.insert(name, at);
        self.messages.push(Vec::new());
        for field in message.fields() {
            let inside = match field.kind() {
                Kind::Message(inside) if field.full_name() != STAYS_ENCODED => Some(inside),
                _ => None,
            };
            let planned = Field {
                number: field.number(),
                counted: self.counted(&field),
                message: inside.map(|inside| self.add(&inside, known)),
                is_copied: matches!(field.kind(), Kind::String),
            };
            self.messages[at].push(planned);
        }
        at
    }

    fn counted(&mut self, field: &FieldDescriptor) -> Option<Counted> {
        let name = field.full_name();
        let &(name, max) = REPEATED.iter().find(|(limited, _)| *limited == name)?;
        let is_packed = field.is_list()
            && !matches!(field.kind(), Kind::String | Kind::Bytes | Kind::Message(_));
        let shortest = if is_packed { 1 } else { ENTRY_BYTES_MIN };
        let harmless = max * ENTRIES_TOLERANCE * shortest;
        self.harmless_bytes = self.harmless_bytes.min(harmless);
        let package = field.parent_file().package_name().len() + ".".len();
        let field_name = name.get(package..).unwrap_or(name);
        self.limits.push(Limit {
            field: field_name,
            max,
        });
        Some(Counted {
            index: self.limits.len() - 1,
            is_message: matches!(field.kind(), Kind::Message(_)) && name != STAYS_ENCODED,
            is_packed,
        })
    }

    /// A request of so many bytes has too few for too many entries.
    pub(super) const fn harmless_bytes(&self) -> usize {
        self.harmless_bytes
    }

    /// How many entries each counted field may have.
    pub(super) fn tolerated(&self) -> Vec<usize> {
        let limits = self.limits.iter();
        limits.map(|limit| limit.max * ENTRIES_TOLERANCE).collect()
    }

    /// The field of this number, if the message has one.
    pub(super) fn field(&self, message: usize, number: u32) -> Option<Field> {
        let mut fields = self.messages[message].iter();
        fields.find(|field| field.number == number).copied()
    }

    pub(super) fn too_many(&self, counted: Counted) -> TooMany {
        let Limit { field, max } = self.limits[counted.index];
        TooMany::Entries { field, max }
    }
}

/// The plans of all RPCs whose descriptors are compiled in, by their paths.
pub(super) fn of_all() -> BTreeMap<&'static str, Plan> {
    let pool = DescriptorPool::decode(DESCRIPTORS).unwrap_or_default();
    let plans = RPCS.iter().filter_map(|rpc| {
        let (service, method) = rpc.names();
        let service = pool.get_service_by_name(service)?;
        let method = service.methods().find(|it| it.name() == method)?;
        Some((rpc.path, Plan::of(&method.input())))
    });
    plans.collect()
}
