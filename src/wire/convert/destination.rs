//! Where a subscription sends its messages by itself. Nothing of it works yet; malformed values are told apart.

use super::is_set;
use crate::{proto::google::pubsub::v1 as proto, resource::violation::Violation};

const VERSION_ATTRIBUTE: &str = "x-goog-version";
const VERSIONS: [&str; 3] = ["v1", "v1beta1", "v1beta2"];

/// At most one destination may be set, and none together with exactly-once delivery.
pub(super) fn check_single(given: &proto::Subscription) -> Result<(), Violation> {
    let set = [
        sets_push(given.push_config.as_ref()).0,
        is_set(given.bigquery_config.as_ref()),
        is_set(given.cloud_storage_config.as_ref()),
        is_set(given.bigtable_config.as_ref()),
    ];
    let count = set.into_iter().filter(|set| *set).count();
    if count > 1 {
        return Err(Violation::argument(
            "at most one of push_config, bigquery_config, cloud_storage_config and bigtable_config may be set",
        ));
    }
    if count == 1 && given.enable_exactly_once_delivery {
        return Err(Violation::argument(
            "enable_exactly_once_delivery needs a pull subscription",
        ));
    }
    Ok(())
}

/// Whether the config asks for push or for one of its settings, and the field to name. Attributes alone are pull.
pub(super) fn sets_push(config: Option<&proto::PushConfig>) -> (bool, &'static str) {
    let set = config.is_some_and(|config| {
        !config.push_endpoint.is_empty()
            || config.authentication_method.is_some()
            || config.wrapper.is_some()
    });
    (set, "push_config")
}

/// Checks the endpoint and the attributes, of which only the format's version exists.
pub(super) fn check_push(config: Option<&proto::PushConfig>) -> Result<(), Violation> {
    let Some(config) = config else {
        return Ok(());
    };
    let endpoint = &config.push_endpoint;
    if !endpoint.is_empty() && !is_url(endpoint) {
        return Err(Violation::PushEndpoint {
            endpoint: endpoint.clone(),
        });
    }
    match config.attributes.get(VERSION_ATTRIBUTE) {
        Some(version) if !VERSIONS.contains(&version.as_str()) => {
            return Err(Violation::PushVersion {
                version: version.clone(),
            });
        }
        _ => {}
    }
    match config
        .attributes
        .keys()
        .filter(|key| *key != VERSION_ATTRIBUTE)
        .min()
    {
        Some(key) => Err(Violation::argument(format!(
            "push_config.attributes: '{key}' is not known; the only attribute is {VERSION_ATTRIBUTE}"
        ))),
        None => Ok(()),
    }
}

fn is_url(endpoint: &str) -> bool {
    endpoint.parse::<http::Uri>().is_ok_and(|uri| {
        matches!(uri.scheme_str(), Some("http" | "https"))
            && uri.host().is_some_and(|h| !h.is_empty())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn push(endpoint: &str, attributes: &[(&str, &str)]) -> Result<(), String> {
        check_push(Some(&proto::PushConfig {
            push_endpoint: endpoint.into(),
            attributes: attributes
                .iter()
                .map(|&(key, value)| (key.to_owned(), value.to_owned()))
                .collect(),
            ..proto::PushConfig::default()
        }))
        .map_err(|violation| violation.to_string())
    }

    #[test]
    fn a_push_endpoint_is_an_absolute_url() {
        assert_eq!(push("https://example.com/push?a=b", &[]), Ok(()));
        assert_eq!(push("http://localhost:8080", &[]), Ok(()));
        for wrong in [
            "not a url",
            "/push",
            "ftp://example.com",
            "https://",
            "example.com",
        ] {
            assert_eq!(
                push(wrong, &[]),
                Err(format!(
                    "Invalid push endpoint given (endpoint={wrong}). Refer to https://cloud.google.com/pubsub/subscriber#create for more information."
                ))
            );
        }
    }

    #[test]
    fn the_only_push_attribute_is_a_known_version() {
        assert_eq!(push("", &[("x-goog-version", "v1")]), Ok(()));
        assert_eq!(
            push("", &[("x-goog-version", "v9")]),
            Err("Invalid push endpoint version given in push config (version=v9).".to_owned())
        );
        assert!(push("", &[("other", "v1")]).is_err());
    }

    #[test]
    fn two_destinations_contradict_each_other_and_one_excludes_exactly_once() {
        let bigquery = proto::Subscription {
            bigquery_config: Some(proto::BigQueryConfig {
                table: "p.d.t".into(),
                ..proto::BigQueryConfig::default()
            }),
            ..proto::Subscription::default()
        };
        assert_eq!(check_single(&bigquery), Ok(()));
        let mut two = bigquery.clone();
        two.push_config = Some(proto::PushConfig {
            push_endpoint: "https://example.com".into(),
            ..proto::PushConfig::default()
        });
        assert!(check_single(&two).is_err());
        let mut exactly_once = bigquery;
        exactly_once.enable_exactly_once_delivery = true;
        assert!(check_single(&exactly_once).is_err());
    }
}
