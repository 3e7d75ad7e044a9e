//! Where messages and state are stored: the values of `--log` and `--store`.

use std::str::FromStr;

/// Where messages are stored.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum LogSetting {
    /// In the data directory.
    #[default]
    Embedded,
    /// In Kafka, whose brokers (at least some of them) are these: `HOST:PORT`, separated by commas.
    Kafka(String),
}

/// Where resources and positions are stored.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum StateSetting {
    /// In the data directory.
    #[default]
    Embedded,
    /// In Postgres, at this URL.
    Postgres(String),
}

const EMBEDDED: &str = "embedded";
/// A refused value may hold a password wherever it was mistyped, so nothing of it is repeated.
const NOT_SHOWN: &str = "the given text";
const KAFKA_PORT: u16 = 9092;

impl FromStr for LogSetting {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == EMBEDDED {
            return Ok(Self::Embedded);
        }
        let brokers = text.strip_prefix("kafka://").ok_or_else(|| {
            format!(
                "{NOT_SHOWN} is not a location for messages: that is kafka://HOST:PORT[,HOST:PORT] or {EMBEDDED}"
            )
        })?;
        if brokers.contains('@') {
            return Err(
                "a user or password does not belong here: set sasl.username in [kafka.properties] of the \
                 configuration file, and the password in PACKETBOAT_KAFKA_PASSWORD or kafka.password_file"
                    .to_owned(),
            );
        }
        let brokers = brokers.strip_suffix('/').unwrap_or(brokers);
        let brokers = (1..).zip(brokers.split(','));
        let brokers: Result<Vec<_>, _> =
            brokers.map(|(number, text)| broker(number, text)).collect();
        Ok(Self::Kafka(brokers?.join(",")))
    }
}

/// `HOST:PORT`, or `HOST` for Kafka's usual port.
fn broker(number: usize, text: &str) -> Result<String, String> {
    let refused = || {
        format!(
            "number {number} of the brokers is not one: a broker is HOST:PORT, such as kafka-1:{KAFKA_PORT}"
        )
    };
    let (host, port) = match text.rsplit_once(':') {
        // An IPv6 address without a port ends in a bracket.
        Some((host, port)) if !port.ends_with(']') => (host, port.parse().map_err(|_| refused())?),
        _ => (text, KAFKA_PORT),
    };
    let is_address = host.starts_with('[') && host.ends_with(']');
    let is_host = !host.is_empty()
        && !host.contains(['/', '?', '#', ' ', '%'])
        && (is_address || !host.contains(':'));
    is_host
        .then(|| format!("{host}:{port}"))
        .ok_or_else(refused)
}

impl FromStr for StateSetting {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == EMBEDDED {
            return Ok(Self::Embedded);
        }
        if !text.starts_with("postgres://") && !text.starts_with("postgresql://") {
            return Err(format!(
                "{NOT_SHOWN} is not a location for state: that is postgres://USER@HOST/DATABASE or {EMBEDDED}"
            ));
        }
        Ok(Self::Postgres(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn brokers_have_kafkas_port_unless_they_name_another() {
        let parsed = "kafka://one,two:9093,[::1],[::1]:99".parse();
        let brokers = "one:9092,two:9093,[::1]:9092,[::1]:99".to_owned();
        assert_eq!(parsed, Ok(LogSetting::Kafka(brokers)));
        assert_eq!("embedded".parse(), Ok(LogSetting::Embedded));
    }

    #[test]
    fn an_address_that_makes_no_sense_is_refused_with_what_to_write() {
        for wrong in [
            "kafka://",
            "kafka://a:b",
            "kafka://a,,b",
            "kafka://a:1/topic",
            "http://a:1",
            "kafka",
        ] {
            let refused = wrong.parse::<LogSetting>().expect_err(wrong);
            assert!(refused.contains("HOST:PORT"), "{refused}");
        }
        let refused = "kafka://a,b:c".parse::<LogSetting>();
        let refused = refused.expect_err("no port");
        assert!(refused.starts_with("number 2"), "{refused}");
    }

    #[test]
    fn nothing_of_a_mistyped_location_is_repeated() {
        for wrong in [
            "mysql://me:s3cret@host/db",
            "postgres:/me:s3cret@host/db",
            "postgre://me:s3c@s3cret",
            "host=db user=me password=s3cret",
            "https://host/?password=s3cret",
            "kafka://me:s3cret",
            "kafka://me:s3cret%40host:9092",
            "kafka://host:9092/?password=s3cret",
            "s3cret",
        ] {
            let log = wrong.parse::<LogSetting>().expect_err(wrong);
            assert!(!log.contains("s3c"), "{wrong}: {log}");
            let state = wrong.parse::<StateSetting>().expect_err(wrong);
            assert!(!state.contains("s3c"), "{wrong}: {state}");
        }
    }

    #[test]
    fn a_password_among_brokers_is_refused_and_not_repeated() {
        let refused = "kafka://user:secret@host:1".parse::<LogSetting>();
        let refused = refused.expect_err("a password");
        assert!(!refused.contains("secret"), "{refused}");
        let url = "postgres://user@host:5432/db?sslmode=verify-full";
        assert_eq!(url.parse(), Ok(StateSetting::Postgres(url.to_owned())));
    }
}
