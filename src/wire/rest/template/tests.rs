use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use proptest::prelude::*;

use super::*;

fn values(template: &str, path: &str) -> Option<Vec<String>> {
    let template = Template::parse(template).expect("a template");
    let matched = template.matches(&Path::new(path))?;
    Some(matched.expect("UTF-8"))
}

fn value(template: &str, path: &str) -> Option<String> {
    values(template, path).map(|mut values| values.remove(0))
}

const TOPIC: &str = "/v1/{topic=projects/*/topics/*}";
const PUBLISH: &str = "/v1/{topic=projects/*/topics/*}:publish";

#[test]
fn a_variable_takes_its_segments_and_a_path_of_other_segments_does_not_match() {
    assert_eq!(
        value(TOPIC, "/v1/projects/p/topics/t").as_deref(),
        Some("projects/p/topics/t")
    );
    for other in [
        "/v1/projects/p/topics",
        "/v1/projects/p/topics/",
        "/v1/projects/p/topics/t/",
        "/v1/projects//topics/t",
        "/v1/projects/p/subscriptions/t",
        "/v2/projects/p/topics/t",
        "//v1/projects/p/topics/t",
        "/",
        "",
    ] {
        assert_eq!(value(TOPIC, other), None, "{other}");
    }
}

#[test]
fn a_verb_stands_behind_the_last_colon_of_the_last_segment() {
    for path in [
        "/v1/projects/example.com:p/topics/t:publish",
        "/v1/projects/example.com%3Ap/topics/t:publish",
        "/v1/projects/example.com%3ap/topics/t%3Apublish",
    ] {
        let topic = "projects/example.com:p/topics/t";
        assert_eq!(value(PUBLISH, path).as_deref(), Some(topic), "{path}");
    }
    assert_eq!(value(PUBLISH, "/v1/projects/p/topics/t"), None);
    assert_eq!(value(PUBLISH, "/v1/projects/p/topics/t:pull"), None);
    assert_eq!(value(PUBLISH, "/v1/projects/p:publish/topics/t"), None);
    assert_eq!(
        value(
            "/v1/{project=projects/*}/topics",
            "/v1/projects/example.com:p/topics"
        )
        .as_deref(),
        Some("projects/example.com:p")
    );
}

#[test]
fn a_segment_is_decoded_once_and_a_plus_sign_stays() {
    for (sent, id) in [
        ("a%2Bb", "a+b"),
        ("a+b", "a+b"),
        ("a%2525", "a%25"),
        ("a%25", "a%"),
        ("a%zz", "a%zz"),
        ("%C3%A4", "ä"),
    ] {
        let path = format!("/v1/projects/p/topics/{sent}");
        let name = format!("projects/p/topics/{id}");
        assert_eq!(value(TOPIC, &path), Some(name), "{sent}");
    }
    let template = Template::parse(TOPIC).expect("a template");
    let path = Path::new("/v1/projects/p/topics/%FF");
    assert_eq!(template.matches(&path), Some(Err(NotText)));
}

#[test]
fn the_grammar_of_templates_is_understood_and_what_is_outside_of_it_refused() {
    assert_eq!(value("/v1/{name}", "/v1/a").as_deref(), Some("a"));
    assert_eq!(
        value("/v1/{resource=**}:get", "/v1/a/b:get").as_deref(),
        Some("a/b")
    );
    assert_eq!(values("/v1/*/x", "/v1/a/x"), Some(Vec::new()));
    for wrong in [
        "",
        "v1",
        "/",
        "/v1/",
        "/v1//a",
        "/v1/{",
        "/v1/{a",
        "/v1/{a=",
        "/v1/{=a}",
        "/v1/{}",
        "/v1/{a=b*}",
        "/v1/{a=**}/b",
        "/v1/a:",
        "/v1/a:b:c",
        "/v1/a:b/c",
        "/v1/{a=*}b",
        "/v1/{a={b}}",
    ] {
        assert!(Template::parse(wrong).is_err(), "{wrong}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever a value is, the path that is made of it gives it back.
    #[test]
    fn a_value_comes_back_out_of_its_path(project in "[^/]{1,20}", topic in "[^/]{1,20}") {
        let encode = |text: &str| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
        let path = format!("/v1/projects/{}/topics/{}:publish", encode(&project), encode(&topic));
        let name = format!("projects/{project}/topics/{topic}");
        prop_assert_eq!(value(PUBLISH, &path), Some(name));
    }

    /// No path and no template brings it down.
    #[test]
    fn anything_may_be_sent(template in "[/{}*:=a.]{0,20}", path in "[/{}*:%3Aa]{0,20}") {
        if let Ok(template) = Template::parse(&template) {
            let _matched = template.matches(&Path::new(&path));
        }
    }
}
