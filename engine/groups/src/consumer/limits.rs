//! How much one member may bring. Kafka bounds these by the size of a request only; here they are
//! bounded because every member's description is kept in memory and in the log.

/// Names that one member subscribes to: as many topics as there can be.
pub const MAX_SUBSCRIBED_TOPICS: usize = 10_000;

/// Bytes of the name of a topic, Kafka's bound. A longer one can never exist.
pub const MAX_TOPIC_NAME_LEN: usize = 249;

/// Bytes of a member's id, its instance id, its rack. Ids are a client's id and a UUID; they are keys of
/// records, whose strings have 16-bit lengths.
pub const MAX_ID_LEN: usize = 1_024;

/// Bytes of a regular expression: room for some hundred names, and a key of records too.
pub const MAX_REGEX_LEN: usize = 16 * 1_024;

/// Bytes of a compiled regular expression. What the longest sensible pattern takes, and what keeps the
/// time to compile a hostile one (`(a{99}){99}`) at milliseconds.
pub(super) const MAX_REGEX_PROGRAM: usize = 1024 * 1024;

/// Brackets within brackets in a regular expression: parsing recurses.
pub(super) const MAX_REGEX_NESTING: u32 = 50;

/// Different regular expressions in a group. Each is matched with every topic whenever topics change;
/// members of one group nearly always share one.
pub const MAX_GROUP_REGEXES: usize = 100;

/// Topics that clients do not subscribe to by pattern.
pub(super) const INTERNAL_TOPICS: [&str; 3] = [
    "__consumer_offsets",
    "__share_group_state",
    "__transaction_state",
];

const _: () = assert!(MAX_ID_LEN <= i16::MAX as usize);
const _: () = assert!(MAX_REGEX_LEN <= i16::MAX as usize);
