//! What happens to every request and answer around the handlers, one concern per file.

pub mod answer;
pub mod budget;
pub mod closing;
pub mod details;
pub mod entries;
pub mod frames;
pub mod gzip;
pub mod headers;
pub mod moved_on;
pub mod node_lease;
pub mod pace;
pub mod places;
pub mod size;
pub mod small;
pub mod turns;
pub mod unread;
pub mod unsent;
pub mod unserved;
pub mod whole;
