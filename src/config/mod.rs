//! What can be set in a file, and how locations and secrets are written. Flags and the environment come first.

mod file;
mod location;
mod machine;
pub mod named_file;

pub use file::{
    File, FileError, KafkaSettings, KafkaTopicSettings, PostgresSettings, PropertyValue,
    read_secret,
};
pub use location::{LogSetting, StateSetting};
pub use machine::machine_name;
